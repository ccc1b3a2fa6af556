"""Tests the installed module `parm`, in the folder of model.pt2."""

import io
import unittest

import numpy as np
import parm

ROWS = np.arange(24, dtype="f4").reshape(6, 4)


class Streams(unittest.TestCase):
    def stream(self, *arrays):
        stream = io.BytesIO()
        for array in arrays:
            parm.write(stream, array)
        stream.seek(0)
        return stream

    def test_items_come_back_as_they_were_written(self):
        arrays = [ROWS, ROWS[:0], np.array([True, False]), np.arange(3, dtype=">i2")]
        for array, back in zip(arrays, parm.read(self.stream(*arrays)), strict=True):
            np.testing.assert_array_equal(array, back)

    def test_numpy_reads_what_is_written_and_is_read(self):
        np.testing.assert_array_equal(np.load(self.stream(ROWS)), ROWS)
        stream = io.BytesIO()
        np.save(stream, np.asfortranarray(ROWS))
        np.save(stream, ROWS)
        for read in [parm.read, lambda stream: parm.rows(stream, 6)]:
            stream.seek(0)
            for back in read(stream):
                np.testing.assert_array_equal(back, ROWS)

    def test_blocks_of_rows_span_items(self):
        blocks = list(parm.rows(self.stream(ROWS[:3], ROWS[3:4], ROWS[4:]), 4))
        self.assertEqual([len(block) for block in blocks], [4, 2])
        np.testing.assert_array_equal(np.concatenate(blocks), ROWS)

    def test_rows_are_written_as_they_come(self):
        stream = io.BytesIO()

        def rows():
            for row in ROWS:
                yield row
                # The row that was given before has been written.
                self.assertEqual(stream.getvalue()[-row.nbytes :], row.tobytes())

        parm.write(stream, rows(), len(ROWS))
        np.testing.assert_array_equal(np.load(io.BytesIO(stream.getvalue())), ROWS)

    def test_what_is_no_stream_of_numbers_is_refused(self):
        with self.assertRaises(ValueError):
            self.stream(np.array(["text"]))
        with self.assertRaises(ValueError):
            self.stream(np.float32(1))
        for count in [5, 7]:
            with self.assertRaises(ValueError):
                parm.write(io.BytesIO(), iter(ROWS), count)
        with self.assertRaises(ValueError):
            list(parm.read(io.BytesIO(b"not an array")))
        with self.assertRaises(ValueError):
            next(parm.rows(self.stream(ROWS), 0))
        with self.assertRaises(EOFError):
            list(parm.read(io.BytesIO(self.stream(ROWS).getvalue()[:-1])))


class Tools(unittest.TestCase):
    def test_a_tool_is_a_function_of_arrays(self):
        parity = parm.run("parm-encode", "--code", "sum", "-k", 2, input=ROWS)
        np.testing.assert_array_equal(parity, ROWS[::2] + ROWS[1::2])
        lost = np.array([True, False, True, True, False, True])
        rebuilt = parm.run(
            "parm-decode", "--code", "sum", "-k", 2, "--parity", parity, "--available", lost, input=ROWS * lost[:, None]
        )
        np.testing.assert_array_equal(rebuilt, ROWS)

    def test_text_is_returned_as_text(self):
        self.assertIn("6 rows of f4[4]", parm.text("parm-data", "info", input=ROWS))

    def test_a_tool_that_fails_is_an_exception_with_its_message(self):
        with self.assertRaisesRegex(parm.Failed, "--tail") as failed:
            parm.run("parm-encode", "--code", "sum", "-k", 4, input=ROWS)
        self.assertEqual(failed.exception.code, 1)
        with self.assertRaises(FileNotFoundError):
            parm.run("parm-nothing")

    def test_a_coprocess_answers_a_group_before_the_next_is_written(self):
        encode = ["parm-encode", "--code", "sum", "-k", 2, "--flush"]
        infer = ["parm-infer", "-m", "model.pt2", "--threads", 1, "--flush"]
        images = np.random.default_rng(1).random((2, 1, 8, 8), dtype="f4")
        for command, group, answer in [
            (encode, ROWS[:2], ROWS[:1] + ROWS[1:2]),
            (infer, images, parm.run("parm-infer", "-m", "model.pt2", input=images)),
        ]:
            with parm.start(*command) as process:
                answers = parm.read(process)
                for scale in range(3):
                    parm.write(process, group * scale if command is encode else group)
                    expected = answer * scale if command is encode else answer
                    np.testing.assert_allclose(next(answers), expected, rtol=1e-5)
            self.assertEqual(process.returncode, 0)


unittest.main()
