//! Streams survive a round trip: any type, any split into items, any block size, any pipe.

use std::io::{Cursor, Read};

use parm::Dtype;
use parm::mask::{MaskError, MaskReader};
use parm::npy::{
    Compressor, Items, RowBuffer, RowLayout, RowReader, RowWriter, Shard, StreamError, StreamErrorKind,
    Widened, Window, WriteError, decompress,
};
use parm_testkit::Trickle;
use proptest::prelude::*;

/// The specification of the reader: an item whose header is taken apart as text and whose elements
/// are picked one by one, by their coordinates.
mod naive {
    use super::{Dtype, RowLayout};

    #[derive(Clone, Copy, Debug)]
    pub(super) struct Form {
        pub(super) big: bool,
        pub(super) fortran: bool,
        pub(super) version: u8,
    }

    /// Where the element of these coordinates lies, in elements.
    fn offset(shape: &[usize], at: &[usize], fortran: bool) -> usize {
        let axes: Vec<usize> =
            if fortran { (0..shape.len()).collect() } else { (0..shape.len()).rev().collect() };
        let mut stride = 1;
        let mut offset = 0;
        for axis in axes {
            offset += at[axis] * stride;
            stride *= shape[axis];
        }
        offset
    }

    /// All coordinates of a shape, in C order.
    fn coordinates(shape: &[usize]) -> Vec<Vec<usize>> {
        shape.iter().fold(vec![vec![]], |all, &axis| {
            let extend = |at: Vec<usize>| (0..axis).map(move |i| [at.clone(), vec![i]].concat());
            all.into_iter().flat_map(extend).collect()
        })
    }

    fn copy(from: &[u8], to: &mut [u8], size: usize, reverse: bool) {
        to.copy_from_slice(from);
        if reverse && size > 1 {
            to.reverse();
        }
    }

    /// An item of rows given as little-endian, C-ordered bytes.
    pub(super) fn write(layout: &RowLayout, rows: &[u8], form: Form) -> Vec<u8> {
        let shape = [vec![rows.len() / layout.bytes()], layout.shape.clone()].concat();
        let lengths = shape.iter().map(|axis| format!("{axis},")).collect::<Vec<_>>().join(" ");
        let order = if form.big { '>' } else { '<' };
        let fortran = if form.fortran { "True" } else { "False" };
        let header = format!(
            "{{'descr': '{order}{}', 'fortran_order': {fortran}, 'shape': ({lengths})}}\n",
            layout.dtype
        );
        let mut item = b"\x93NUMPY".to_vec();
        item.extend([form.version, 0]);
        let length = (header.len() as u32).to_le_bytes();
        item.extend(&length[..if form.version == 1 { 2 } else { 4 }]);
        item.extend(header.as_bytes());
        let (begin, size) = (item.len(), layout.dtype.size());
        item.resize(begin + rows.len(), 0);
        for (i, at) in coordinates(&shape).iter().enumerate() {
            let place = begin + offset(&shape, at, form.fortran) * size;
            copy(&rows[i * size..][..size], &mut item[place..place + size], size, form.big);
        }
        item
    }

    /// The rows of a stream as little-endian, C-ordered bytes.
    pub(super) fn read(mut stream: &[u8]) -> (Dtype, Vec<usize>, Vec<u8>) {
        let (mut dtype, mut row_shape, mut rows) = (Dtype::Bool, vec![], vec![]);
        while !stream.is_empty() {
            let wide = stream[6] > 1;
            let (length, begin) = if wide {
                (u32::from_le_bytes(stream[8..12].try_into().unwrap()) as usize, 12)
            } else {
                (usize::from(u16::from_le_bytes(stream[8..10].try_into().unwrap())), 10)
            };
            let header = std::str::from_utf8(&stream[begin..begin + length]).unwrap();
            let value = |key: &str| header.split(&format!("'{key}': ")).nth(1).unwrap();
            let descr = value("descr").split('\'').nth(1).unwrap();
            dtype = Dtype::ALL.into_iter().find(|dtype| descr.ends_with(dtype.name())).unwrap();
            let lengths = value("shape").trim_start_matches('(').split(')').next().unwrap();
            let shape: Vec<usize> = lengths.split(',').filter_map(|text| text.trim().parse().ok()).collect();
            row_shape = shape[1..].to_vec();
            let (elements, size) = (shape.iter().product::<usize>(), dtype.size());
            let data = &stream[begin + length..][..elements * size];
            for at in coordinates(&shape) {
                let place = offset(&shape, &at, value("fortran_order").starts_with("True")) * size;
                let mut element = vec![0; size];
                copy(&data[place..place + size], &mut element, size, descr.starts_with('>'));
                rows.extend(element);
            }
            stream = &stream[begin + length + data.len()..];
        }
        (dtype, row_shape, rows)
    }
}

/// Rows of one layout, cut into items, and the form of each item.
#[derive(Clone, Debug)]
struct Stream {
    layout: RowLayout,
    rows: Vec<u8>,
    /// The rows of each item.
    items: Vec<usize>,
    forms: Vec<naive::Form>,
}

impl Stream {
    fn count(&self) -> usize {
        self.items.iter().sum()
    }

    /// The stream as others may write it: byte orders, orders and versions mixed.
    fn foreign(&self) -> Vec<u8> {
        let mut rest = self.rows.as_slice();
        let mut bytes = Vec::new();
        for (&rows, &form) in self.items.iter().zip(&self.forms) {
            let (item, later) = rest.split_at(rows * self.layout.bytes());
            bytes.extend(naive::write(&self.layout, item, form));
            rest = later;
        }
        bytes
    }

    /// The stream as it is written here, in calls of so many rows.
    fn written(&self, rows_per_call: usize) -> Vec<u8> {
        let mut writer = RowWriter::new(Vec::new(), self.layout.clone());
        self.items.iter().for_each(|&rows| writer.announce(rows as u64));
        for rows in self.rows.chunks(rows_per_call * self.layout.bytes()) {
            writer.write_raw(rows).unwrap();
        }
        writer.finish().unwrap()
    }
}

fn dtypes() -> impl Strategy<Value = Dtype> {
    prop::sample::select(Dtype::ALL.to_vec())
}

fn streams(dtypes: impl Strategy<Value = Dtype>) -> impl Strategy<Value = Stream> {
    let forms = (any::<bool>(), any::<bool>(), 1_u8..=3).prop_map(|(big, fortran, version)| naive::Form {
        big,
        fortran,
        version,
    });
    let items = prop::collection::vec((0_usize..6, forms), 1..6);
    (dtypes, prop::collection::vec(1_usize..4, 0..4), items).prop_flat_map(|(dtype, shape, items)| {
        let layout = RowLayout::new(dtype, shape);
        let (items, forms): (Vec<usize>, Vec<naive::Form>) = items.into_iter().unzip();
        let bytes = items.iter().sum::<usize>() * layout.bytes();
        let byte = if dtype == Dtype::Bool { 0_u8..=1 } else { 0..=255 };
        prop::collection::vec(byte, bytes).prop_map(move |rows| Stream {
            layout: layout.clone(),
            rows,
            items: items.clone(),
            forms: forms.clone(),
        })
    })
}

fn read_all(source: impl Read, block: usize) -> Result<Vec<u8>, StreamError> {
    let mut reader = RowReader::new(source, "stream")?;
    let (mut all, mut buffer) = (Vec::new(), Vec::new());
    loop {
        match reader.read_raw(block, &mut buffer)? {
            0 => return Ok(all),
            rows => all.extend(&buffer[..rows * reader.layout().bytes()]),
        }
    }
}

fn boxed(bytes: &[u8]) -> Box<dyn Read + Send> {
    Box::new(Cursor::new(bytes.to_vec()))
}

proptest! {
    #[test]
    fn the_shards_of_a_stream_are_the_stream(mut stream in streams(dtypes()), k in 1_u64..5, of in 1_u64..6, block in 1_usize..12) {
        stream.forms.iter_mut().for_each(|form| form.fortran = false);
        let bytes = stream.foreign();
        let items = Items::find(boxed(&bytes), "stream").unwrap();
        prop_assert_eq!(items.rows(), stream.count() as u64);
        let (mut joined, mut end) = (Vec::new(), 0);
        for number in 1..=of {
            let shard: Shard = format!("{number}/{of}").parse().unwrap();
            let rows = shard.rows(items.rows(), k);
            prop_assert_eq!(rows.start, end);
            prop_assert!(number == of || (rows.end - rows.start).is_multiple_of(k));
            end = rows.end;
            let part = read_all(items.part(boxed(&bytes), rows.clone()).unwrap(), block).unwrap();
            prop_assert_eq!(part.len() as u64, (rows.end - rows.start) * stream.layout.bytes() as u64);
            joined.extend(part);
        }
        prop_assert_eq!(joined, stream.rows);
    }

    #[test]
    fn what_is_written_is_read(stream in streams(dtypes()), block in 1_usize..12, call in 1_usize..12, most in 1_usize..40, seed: u64) {
        let bytes = stream.written(call);
        prop_assert_eq!(naive::read(&bytes), (stream.layout.dtype, stream.layout.shape.clone(), stream.rows.clone()));
        prop_assert_eq!(read_all(Trickle::new(bytes.as_slice(), most, seed), block).unwrap(), stream.rows);
    }

    #[test]
    fn what_others_write_is_read(stream in streams(dtypes()), block in 1_usize..12, most in 1_usize..40, seed: u64) {
        let bytes = stream.foreign();
        prop_assert_eq!(&naive::read(&bytes).2, &stream.rows);
        prop_assert_eq!(read_all(Trickle::new(bytes.as_slice(), most, seed), block).unwrap(), stream.rows);
    }

    #[test]
    fn splitting_a_stream_changes_nothing(stream in streams(dtypes()), block in 1_usize..12) {
        let whole = Stream { items: vec![stream.count()], ..stream.clone() };
        prop_assert_eq!(
            read_all(stream.foreign().as_slice(), block).unwrap(),
            read_all(whole.foreign().as_slice(), usize::MAX).unwrap()
        );
    }

    #[test]
    fn compression_changes_nothing(stream in streams(dtypes()), level in 1..=19, cut in any::<prop::sample::Index>(), most in 1_usize..40, seed: u64) {
        let plain = stream.foreign();
        // Two frames, as `cat a.npy.zst b.npy.zst` makes them.
        let (first, second) = plain.split_at(cut.index(plain.len()));
        let compressed: Vec<u8> = [first, second].into_iter().flat_map(|part| compress(part, level)).collect();
        let source = decompress(Trickle::new(compressed.as_slice(), most, seed), Window::Normal).unwrap();
        prop_assert_eq!(read_all(source, 3).unwrap(), stream.rows);
    }

    #[test]
    fn rows_that_are_skipped_are_counted(stream in streams(dtypes()), read in 0_usize..12, most in 1_usize..40, seed: u64) {
        let bytes = stream.foreign();
        let mut reader = RowReader::new(Trickle::new(bytes.as_slice(), most, seed), "stream").unwrap();
        let read = reader.read_raw(read, &mut Vec::new()).unwrap();
        prop_assert_eq!(reader.skip_rest().unwrap() as usize, stream.count() - read);
        prop_assert_eq!(reader.skip_rest().unwrap(), 0);
        // A stream that lacks its last byte is refused as it is when its rows are read.
        if stream.items.last() != Some(&0) {
            let cut = &bytes[..bytes.len() - 1];
            let mut reader = RowReader::new(cut, "stream").unwrap();
            let skipped = reader.read_raw(read.min(stream.count() - 1), &mut Vec::new()).and_then(|_| reader.skip_rest());
            prop_assert_eq!(skipped.unwrap_err().to_string(), read_all(cut, usize::MAX).unwrap_err().to_string());
        }
    }

    #[test]
    fn nothing_beyond_the_rows_asked_for_is_consumed(stream in streams(dtypes()), asked in 1_usize..30) {
        let bytes = stream.foreign();
        let mut source = Cursor::new(&bytes);
        let mut reader = RowReader::new(&mut source, "stream").unwrap();
        let mut buffer = Vec::new();
        let got = reader.read_raw(asked, &mut buffer).unwrap();
        prop_assert_eq!(got, asked.min(stream.count()));
        drop(reader);
        // The end of the last item that was needed; of one in C order, of the last row.
        let (mut left, mut end, mut rest) = (got, 0, bytes.as_slice());
        let mut parts = stream.items.iter().zip(&stream.forms);
        while left > 0 || got < asked {
            let Some((&rows, form)) = parts.next() else { break };
            let item = naive::write(&stream.layout, &vec![0; rows * stream.layout.bytes()], *form).len();
            let unread = if form.fortran && !stream.layout.shape.is_empty() { 0 } else { rows.saturating_sub(left) };
            end += item - unread * stream.layout.bytes();
            left -= left.min(rows);
            rest = &rest[item..];
        }
        prop_assert_eq!(source.position() as usize, end);
    }

    #[test]
    fn every_type_converts_as_its_elements_do(stream in streams(dtypes()), block in 1_usize..12) {
        let bytes = stream.foreign();
        let size = stream.layout.dtype.size();
        let expected: Vec<f64> = stream.rows.chunks(size).map(|bytes| element(stream.layout.dtype, bytes)).collect();
        let mut reader = RowReader::new(bytes.as_slice(), "stream").unwrap();
        let mut buffer = RowBuffer::<f64>::default();
        let mut doubles = Vec::new();
        while let rows @ 1.. = reader.read(block, &mut buffer).unwrap() {
            doubles.extend_from_slice(&buffer.values()[..rows * stream.layout.elements()]);
        }
        let mut reader = RowReader::new(bytes.as_slice(), "stream").unwrap();
        let mut buffer = RowBuffer::<f32>::default();
        let rows = reader.read(usize::MAX, &mut buffer).unwrap();
        prop_assert_eq!(rows, stream.count());
        prop_assert!(expected.iter().zip(&doubles).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())));
        prop_assert_eq!(doubles.len(), expected.len());
        for (i, (&wide, &single)) in expected.iter().zip(buffer.values()).enumerate() {
            // Rounded once, from the exact value.
            let exact = match stream.layout.dtype {
                Dtype::I64 => i64::from_le_bytes(stream.rows[i * 8..][..8].try_into().unwrap()) as f32,
                Dtype::U64 => u64::from_le_bytes(stream.rows[i * 8..][..8].try_into().unwrap()) as f32,
                _ => wide as f32,
            };
            prop_assert!(exact.to_bits() == single.to_bits() || (exact.is_nan() && single.is_nan()));
        }
    }

    #[test]
    fn floats_are_written_as_the_streams_float_type(
        values in prop::collection::vec(any::<f64>(), 1..20),
        dtype in prop::sample::select(vec![Dtype::F16, Dtype::F32, Dtype::F64]),
    ) {
        let mut writer = RowWriter::new(Vec::new(), RowLayout::new(dtype, []));
        writer.announce(values.len() as u64);
        values.chunks(3).for_each(|values| writer.write(values).unwrap());
        let bytes = writer.finish().unwrap();
        let mut reader = RowReader::new(bytes.as_slice(), "stream").unwrap();
        let mut buffer = RowBuffer::<f64>::default();
        prop_assert_eq!(reader.read(usize::MAX, &mut buffer).unwrap(), values.len());
        for (&value, &read) in values.iter().zip(buffer.values()) {
            let expected = match dtype {
                Dtype::F16 => half::f16::from_f64(value).to_f64(),
                Dtype::F32 => f64::from(value as f32),
                _ => value,
            };
            prop_assert!(expected == read || (expected.is_nan() && read.is_nan()), "{} {}", expected, read);
        }
    }
}

#[allow(clippy::cast_lossless)] // one cast for twelve types
fn element(dtype: Dtype, bytes: &[u8]) -> f64 {
    macro_rules! of {
        ($element:ty) => {
            <$element>::from_le_bytes(bytes.try_into().unwrap()) as f64
        };
    }
    match dtype {
        Dtype::Bool | Dtype::U8 => f64::from(bytes[0]),
        Dtype::I8 => f64::from(bytes[0].cast_signed()),
        Dtype::I16 => of!(i16),
        Dtype::I32 => of!(i32),
        Dtype::I64 => of!(i64),
        Dtype::U16 => of!(u16),
        Dtype::U32 => of!(u32),
        Dtype::U64 => of!(u64),
        Dtype::F16 => half::f16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        Dtype::F32 => of!(f32),
        Dtype::F64 => of!(f64),
    }
}

fn compress(content: &[u8], level: i32) -> Vec<u8> {
    let mut compressor = Compressor::new(Vec::new(), level).unwrap();
    std::io::Write::write_all(&mut compressor, content).unwrap();
    compressor.finish().unwrap()
}

/// A stream of one item of 4 rows of `u1[2]`: 0, 1, 2, …
fn small() -> Vec<u8> {
    let mut writer = RowWriter::new(Vec::new(), RowLayout::new(Dtype::U8, [2]));
    writer.announce(4);
    writer.write_raw(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    writer.finish().unwrap()
}

#[test]
fn items_are_reported_as_they_are_opened() {
    let stream = [small(), small(), small()].concat();
    let mut reader = RowReader::new(stream.as_slice(), "stream").unwrap();
    let mut buffer = Vec::new();
    assert_eq!(reader.take_opened().collect::<Vec<_>>(), [4]);
    assert!(reader.next_item().unwrap(), "rows are left: the reader stays where it is");
    assert_eq!(reader.take_opened().count(), 0);
    assert_eq!(reader.read_raw(4, &mut buffer).unwrap(), 4);
    assert_eq!(reader.take_opened().count(), 0, "the next header is not read before it is needed");
    assert_eq!(reader.read_raw(5, &mut buffer).unwrap(), 5);
    assert_eq!(reader.take_opened().collect::<Vec<_>>(), [4, 4]);
    assert_eq!(reader.skip_rest().unwrap(), 3);
    assert!(!reader.next_item().unwrap());
    assert_eq!(reader.read_raw(1, &mut buffer).unwrap(), 0, "the end stays the end");
    assert_eq!(reader.name(), "stream");
}

#[test]
fn rows_at_once_end_with_their_item_or_with_the_group_that_it_ends_in() {
    let empty = RowWriter::new(Vec::new(), RowLayout::new(Dtype::U8, [2])).finish().unwrap();
    let stream = [empty, small(), small()].concat();
    let mut reader = RowReader::new(stream.as_slice(), "stream").unwrap();
    let mut buffer = Vec::new();
    assert_eq!(
        [(9, 1), (3, 1), (9, 3), (6, 3)].map(|(max, k)| reader.rows_at_once(max, k).unwrap()),
        [4, 3, 6, 6]
    );
    assert_eq!(reader.read_raw(3, &mut buffer).unwrap(), 3);
    assert_eq!(reader.rows_at_once(9, 1).unwrap(), 1);
    assert_eq!(reader.read_raw(1, &mut buffer).unwrap(), 1);
    assert_eq!(reader.take_opened().collect::<Vec<_>>(), [0, 4], "the next item is not waited for");
    assert_eq!(reader.rows_at_once(9, 1).unwrap(), 4);
    assert_eq!(reader.skip_rest().unwrap(), 4);
    assert_eq!(reader.rows_at_once(9, 1).unwrap(), 0);
}

#[test]
fn a_stream_without_rows_has_one_item() {
    let layout = RowLayout::new(Dtype::F32, [3, 2]);
    let bytes = RowWriter::new(Vec::new(), layout.clone()).finish().unwrap();
    let mut reader = RowReader::new(bytes.as_slice(), "stream").unwrap();
    assert_eq!(reader.layout(), &layout);
    assert_eq!(reader.skip_rest().unwrap(), 0);
}

#[test]
fn what_is_written_must_be_what_was_announced() {
    let writer = || RowWriter::new(Vec::new(), RowLayout::new(Dtype::U8, [2]));
    let mut early = writer();
    assert!(matches!(early.write_raw(&[1, 2]), Err(WriteError::Unannounced)));
    let mut short = writer();
    short.announce(3);
    short.announce(4);
    short.write_raw(&[1, 2]).unwrap();
    assert!(matches!(short.finish(), Err(WriteError::Unfinished(6))));
}

#[test]
#[should_panic(expected = "only whole rows are written")]
fn part_of_a_row_is_not_written() {
    let mut writer = RowWriter::new(Vec::new(), RowLayout::new(Dtype::U8, [2]));
    writer.announce(3);
    let _ = writer.write_raw(&[1, 2, 3]);
}

#[test]
fn a_sink_that_fails_is_reported() {
    let mut room = [0_u8; 130];
    let mut writer = RowWriter::new(room.as_mut_slice(), RowLayout::new(Dtype::U8, [2]));
    writer.announce(4);
    let error = writer.write_raw(&[0; 8]).unwrap_err();
    assert!(matches!(error, WriteError::Io(_)), "{error}");
}

#[test]
fn a_source_that_fails_is_reported_with_its_item() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is on fire"))
        }
    }
    let error = read_all(small().chain(Failing), 3).unwrap_err();
    assert!(matches!(error.kind, StreamErrorKind::Io(_)));
    assert_eq!(error.to_string(), "stream: item 2: cannot read: the disk is on fire");
    assert!(decompress(Failing, Window::Normal).is_err());
}

#[test]
fn levels_whose_windows_are_refused_are_not_written() {
    for level in [0, -1, 20, 22] {
        let error = Compressor::new(Vec::new(), level).err().unwrap();
        assert_eq!(error.to_string(), format!("found zstd level {level}, expected 1 to 19"));
    }
}

#[test]
fn a_level_19_stream_larger_than_its_window_is_read() {
    let layout = RowLayout::new(Dtype::U8, [1 << 20]);
    let mut writer = RowWriter::new(Compressor::new(Vec::new(), 19).unwrap(), layout);
    writer.announce(12);
    (0..12).for_each(|row| writer.write_raw(&vec![row; 1 << 20]).unwrap());
    let bytes = writer.finish().unwrap().finish().unwrap();
    let source = decompress(bytes.as_slice(), Window::Normal).unwrap();
    assert_eq!(RowReader::new(source, "stream").unwrap().skip_rest().unwrap(), 12);
}

proptest! {
    #[test]
    fn masks_are_read_as_they_are_written(
        entries in prop::collection::vec(any::<bool>(), 0..40),
        block in 1_usize..50,
        dtype in prop::sample::select(vec![Dtype::Bool, Dtype::U8]),
    ) {
        let mut writer = RowWriter::new(Vec::new(), RowLayout::new(dtype, []));
        writer.announce(entries.len() as u64);
        writer.write_raw(&entries.iter().map(|&entry| u8::from(entry)).collect::<Vec<_>>()).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = MaskReader::new(bytes.as_slice(), "mask").unwrap();
        let mut read = Vec::new();
        while reader.read(block, &mut read).unwrap() > 0 {}
        prop_assert_eq!(read, entries);
        prop_assert_eq!(reader.name(), "mask");
    }
}

#[test]
fn what_is_no_mask_is_refused() {
    let stream = small();
    let error = MaskReader::new(stream.as_slice(), "have.npy").err().unwrap();
    assert!(matches!(error, MaskError::NotAMask { .. }));
    assert_eq!(
        error.to_string(),
        "have.npy: found rows of u1[2], expected a mask: b1[] or u1[] (one b1, or a 0 or 1, for each row)"
    );
    let mut writer = RowWriter::new(Vec::new(), RowLayout::new(Dtype::U8, []));
    writer.announce(3);
    writer.write_raw(&[1, 0, 2]).unwrap();
    let bytes = writer.finish().unwrap();
    let mut reader = MaskReader::new(bytes.as_slice(), "have.npy").unwrap();
    let mut entries = Vec::new();
    assert_eq!(reader.read(2, &mut entries).unwrap(), 2);
    let error = reader.read(2, &mut entries).unwrap_err();
    assert!(matches!(error, MaskError::Entry { .. }));
    assert_eq!(error.to_string(), "have.npy: row 2: found 2 in a mask, expected 0 or 1");
    let error = MaskReader::new([].as_slice(), "have.npy").err().unwrap();
    assert!(matches!(error, MaskError::Stream(_)));
    assert_eq!(error.to_string(), "have.npy: item 1: found the end of the stream, expected an .npy item");
}

#[test]
fn shards_are_whole_groups_of_equal_number() {
    let sizes = |of: u64| -> Vec<u64> {
        let shard = |number| format!("{number}/{of}").parse::<Shard>().unwrap().rows(23, 2);
        (1..=of).map(shard).map(|rows| rows.end - rows.start).collect()
    };
    assert_eq!(sizes(3), [6, 8, 9]);
    // The last row is in no group; it comes with the last shard.
    assert_eq!(sizes(12), [0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
    for text in ["0/3", "4/3", "1", "1/0", "-1/2", "a/b", "1/2/3", "18446744073709551616/2"] {
        let error = text.parse::<Shard>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("found shard '{text}', expected I/N")), "{error}");
    }
    assert_eq!("2/3".parse::<Shard>().unwrap().to_string(), "2/3");
}

#[test]
fn parts_of_items_in_fortran_order_are_refused_unless_they_are_all_of_it() {
    let layout = RowLayout::new(Dtype::U8, [2]);
    let form = naive::Form { big: false, fortran: true, version: 1 };
    let bytes = naive::write(&layout, &[1, 2, 3, 4, 5, 6], form);
    let items = Items::find(boxed(&bytes), "stream").unwrap();
    assert_eq!(read_all(items.part(boxed(&bytes), 0..3).unwrap(), 9).unwrap(), [1, 2, 3, 4, 5, 6]);
    assert!(read_all(items.part(boxed(&bytes), 3..9).unwrap(), 9).unwrap().is_empty());
    let error = items.part(boxed(&bytes), 0..2).err().unwrap();
    assert!(matches!(error.kind, StreamErrorKind::FortranPart), "{error}");
}

#[test]
fn streams_that_end_too_early_have_no_parts() {
    let layout = RowLayout::new(Dtype::U8, [2]);
    let form = naive::Form { big: false, fortran: false, version: 1 };
    let bytes = naive::write(&layout, &[1, 2, 3, 4], form);
    let find = |bytes: &[u8]| Items::find(boxed(bytes), "stream").unwrap_err();
    assert!(matches!(
        find(&bytes[..bytes.len() - 1]).kind,
        StreamErrorKind::Truncated { found: 3, expected: 4 }
    ));
    assert!(matches!(find(&[]).kind, StreamErrorKind::Empty));
    let error = find(&[&bytes[..], b"PK"].concat());
    assert!(matches!((error.item, error.kind), (2, StreamErrorKind::Magic { .. })));
}

/// An item of bfloat16, as ml_dtypes writes it or in the other byte order.
fn bfloat16_item(big: bool, order: &str, shape: &str, values: &[f32]) -> Vec<u8> {
    let descr = if big { ">V2" } else { "<V2" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let upper = values.iter().map(|value| (value.to_bits() >> 16) as u16);
    let data = upper.flat_map(|bits| if big { bits.to_be_bytes() } else { bits.to_le_bytes() });
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes(), &data.collect::<Vec<_>>()].concat()
}

#[test]
fn bfloat16_is_read_as_single_precision_where_it_is_asked_for() {
    let values = [1.5_f32, -0.0, f32::INFINITY, 3.0e38, 1.0e-40, 256.0].map(|value| {
        // What bfloat16 holds of it.
        f32::from_bits(value.to_bits() & 0xffff_0000)
    });
    // Rows (a, b), (c, d), (e, f): the second item has them in Fortran order, the third is single already.
    let [a, b, c, d, e, f] = values;
    let stream = [
        bfloat16_item(false, "False", "(3, 2)", &values),
        bfloat16_item(true, "True", "(3, 2)", &[a, c, e, b, d, f]),
        parm_testkit::npy::f4(&[1, 2], &[0.1, 0.2]),
    ]
    .concat();
    let mut expected: Vec<u8> = values.iter().chain(&values).flat_map(|value| value.to_le_bytes()).collect();
    expected.extend([0.1_f32, 0.2].iter().flat_map(|value| value.to_le_bytes()));
    for most in [1, 3, 1000] {
        let source = Trickle::new(Widened::new(stream.as_slice()), most, 1);
        assert_eq!(read_all(source, 2).unwrap(), expected);
    }
    let error = read_all(stream.as_slice(), 2).unwrap_err();
    let hint = "with --bf16 they are read as bfloat16";
    assert!(error.to_string().contains(hint), "{error}");

    // Parts keep the records as they are, and are widened like any stream.
    let one = bfloat16_item(false, "False", "(3, 2)", &values);
    let items = Items::find(boxed(&one), "stream").unwrap();
    assert_eq!(items.rows(), 3);
    let part = Widened::new(items.part(boxed(&one), 1..3).unwrap());
    assert_eq!(read_all(part, 9).unwrap(), expected[8..24]);

    // What is wrong keeps its place and its size in the file.
    let cut = read_all(Widened::new(&one[..one.len() - 3]), 9).unwrap_err();
    assert!(matches!(cut.kind, StreamErrorKind::Truncated { found: 9, expected: 12 }), "{cut}");
    let behind =
        read_all(Widened::new([&one, b"more, but no item".as_slice()].concat().as_slice()), 9).unwrap_err();
    assert!(matches!((behind.item, behind.kind), (2, StreamErrorKind::Magic { .. })));
}
