//! What clients and servers send, and mutations of it.

use std::fs;
use std::path::Path;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a body is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    Request,
    RawRequest,
    Response,
    RequestMessage,
    ResponseMessage,
    Metadata,
}

#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) read_as: As,
    pub(crate) header_length: Option<usize>,
    pub(crate) body: Vec<u8>,
}

/// What clients and servers send, and more: the golden bodies, read also as responses.
pub(crate) fn corpus() -> Vec<Input> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/serving");
    let entries = fs::read_dir(&folder).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let mut names: Vec<_> = files.map(|file| file.file_name()).collect();
    // Folders have no order of their own.
    names.sort();
    let mut inputs = Vec::new();
    for name in names {
        let name = name.to_str().unwrap();
        let body = fs::read(folder.join(name)).unwrap();
        let input =
            |read_as, header_length, body: &[u8]| Input { read_as, header_length, body: body.to_vec() };
        match name.split('.').next_back() {
            Some("http") => {
                // The JSON has no braces in its strings.
                let depth =
                    |at| body[..=at].iter().map(|&byte| i32::from(byte == b'{') - i32::from(byte == b'}'));
                let length = (1..body.len()).find(|&at| depth(at).sum::<i32>() == 0).unwrap() + 1;
                inputs.push(input(As::Request, Some(length), &body));
                inputs.push(input(As::RawRequest, Some(0), &body[length..]));
                let text = String::from_utf8(body[..length].to_vec()).unwrap();
                let text = text.replace("outputs", "x").replace("inputs", "outputs");
                inputs.push(input(
                    As::Response,
                    Some(text.len()),
                    &[text.as_bytes(), &body[length..]].concat(),
                ));
            }
            Some("pb") if name != "metadata.pb" => {
                let read_as =
                    if name.contains("response") { As::ResponseMessage } else { As::RequestMessage };
                inputs.push(input(read_as, None, &body));
            }
            _ => {}
        }
    }
    for text in [
        r#"{"name":"m","versions":["1"],"platform":"p","inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}]}"#,
        r#"{"error":"e","detail":[{"loc":["a"]}],"message":"m"}"#,
    ] {
        inputs.push(Input { read_as: As::Metadata, header_length: None, body: text.into() });
    }
    inputs
}

/// Pieces of JSON, good and bad; numbers that sizes have trouble with.
const WORDS: [&str; 36] = [
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "null",
    "true",
    "NaN",
    "-Infinity",
    "\"data\":",
    "\"parameters\":",
    "\"binary_data_size\":",
    "\"shape\":",
    "[[",
    "{\"a\":",
    "FP16",
    "BYTES",
    "0",
    "-1",
    "1e400",
    "1.5",
    "255",
    "65536",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999999999",
    "\u{e9}",
    "\u{0}",
    " ",
];

/// Puts `piece` in the place of a range; the length of the JSON mostly follows.
fn splice(input: &mut Input, from: usize, to: usize, piece: &[u8], follow: bool) {
    let Input { body, header_length, .. } = input;
    drop(body.splice(from..to, piece.iter().copied()));
    if let Some(length) = header_length.as_mut().filter(|length| follow && **length > from) {
        *length = (*length + piece.len()).saturating_sub(to - from);
    }
}

fn mutate(corpus: &[Input], rng: &mut impl Rng) -> Input {
    let mut input = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..=3) {
        let length = input.body.len();
        let at = rng.random_range(0..=length);
        let follow = rng.random_bool(0.9);
        match rng.random_range(0..10) {
            0 if at < length => input.body[at] ^= 1 << rng.random_range(0..8),
            1 if at < length => input.body[at] = rng.random(),
            2 => splice(&mut input, at, at, &[rng.random()], follow),
            3 => splice(&mut input, at, length.min(at + rng.random_range(1..20)), &[], follow),
            4 => input.body.truncate(at),
            5 => {
                let other = &corpus[rng.random_range(0..corpus.len())].body;
                let from = rng.random_range(0..=other.len());
                let to = other.len().min(from + rng.random_range(0..100));
                splice(&mut input, at, at, &other[from..to], follow);
            }
            6 => change_number(&mut input, rng),
            7 => {
                let word = WORDS[rng.random_range(0..WORDS.len())];
                let copies = if rng.random_bool(0.1) { rng.random_range(1..3000) } else { 1 };
                splice(&mut input, at, at, word.repeat(copies).as_bytes(), follow);
            }
            8 => {
                input.header_length = [None, Some(0), Some(at), Some(usize::MAX / 2)][rng.random_range(0..4)];
            }
            _ => {
                let from = rng.random_range(0..=at);
                let piece = input.body[from..at].to_vec();
                splice(&mut input, at, at, &piece, follow);
            }
        }
    }
    input
}

/// Puts another number in the place of one.
fn change_number(input: &mut Input, rng: &mut impl Rng) {
    let body = &input.body;
    let begins: Vec<usize> =
        (1..body.len()).filter(|&i| body[i].is_ascii_digit() && !body[i - 1].is_ascii_digit()).collect();
    if begins.is_empty() {
        return;
    }
    let begin = begins[rng.random_range(0..begins.len())];
    let digits = body[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = WORDS[rng.random_range(22..33)];
    splice(input, begin, begin + digits, number.as_bytes(), true);
}

pub(crate) fn input(corpus: &[Input], i: u64) -> Input {
    mutate(corpus, &mut ChaCha8Rng::seed_from_u64(i))
}
