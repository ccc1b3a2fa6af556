//! The saboteur over gRPC. It writes HTTP/2 frames and message fields itself, so that it can violate the
//! rules.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

use super::{Fault, Shared, TOO_LARGE};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// The flag of a frame that acknowledges, or ends a stream.
const END: u8 = 1;
/// The flag of complete headers.
const END_HEADERS: u8 = 4;

const INVALID_ARGUMENT: &str = "3";

pub(super) fn converse(shared: &Shared, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_exact(&mut [0; 24])?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    // Enough for all requests.
    stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()))?;
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
    loop {
        let mut head = [0; 9];
        reader.read_exact(&mut head)?;
        let [a, b, c, kind, flags, d, e, f, g] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        reader.read_exact(&mut payload)?;
        let id = u32::from_be_bytes([d, e, f, g]);
        match kind {
            SETTINGS if flags & END == 0 => stream.write_all(&frame(SETTINGS, END, 0, &[]))?,
            PING if flags & END == 0 => stream.write_all(&frame(PING, END, 0, &payload))?,
            RESET => drop(bodies.remove(&id)),
            GO_AWAY => return Ok(()),
            DATA => {
                bodies.entry(id).or_default().extend(payload);
                if flags & END == END {
                    let body = bodies.remove(&id).unwrap_or_default();
                    stream.write_all(&answer(shared, id, body.get(5..).unwrap_or_default()))?;
                }
            }
            _ => {}
        }
    }
}

/// The response to a request.
fn answer(shared: &Shared, id: u32, message: &[u8]) -> Vec<u8> {
    let fields = fields(message);
    let field = |number: u64| fields.iter().find(|(found, _)| *found == number).map(|(_, bytes)| *bytes);
    // The data of the only input; a request without them is not an inference, such as a check for readiness.
    let Some(data) = field(7) else { return respond(id, &[8, 1], "0") };
    let parity = field(1).is_some_and(|name| name.ends_with(b"-0"));
    let values: Vec<f32> = data.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    if values.iter().any(|value| f64::from(value.abs()) >= TOO_LARGE) {
        return respond(id, &[], INVALID_ARGUMENT);
    }
    let fault = shared.fault();
    let not_a_number = fault == Some(Fault::NotANumber) && parity;
    let sum = |row: &[f32]| if not_a_number { f32::NAN } else { row.iter().sum() };
    let sums: Vec<u8> = values.chunks(2).flat_map(|row| sum(row).to_le_bytes()).collect();
    let rows = (sums.len() / 4) as u8;
    let output = [part(1, b"y"), part(2, b"FP32"), part(3, &[rows, 1])].concat();
    let message = [part(3, field(3).unwrap_or_default()), part(5, &output), part(6, &sums)].concat();
    let before = shared.swap(message.clone());
    let good = respond(id, &message, "0");
    match fault {
        Some(Fault::Twice | Fault::TwiceLater) => good.repeat(2),
        Some(Fault::Unrequested) => [good, respond(id + 2, &message, "0")].concat(),
        Some(Fault::Swapped) if !before.is_empty() => respond(id, &before, "0"),
        Some(Fault::Garbage) => garbage(id),
        Some(Fault::Half) => good[..good.len() / 2].to_vec(),
        Some(Fault::None) => frame(GO_AWAY, 0, 0, &[id.to_be_bytes(), 2_u32.to_be_bytes()].concat()),
        Some(Fault::Interim) => {
            let early = frame(HEADERS, END_HEADERS, id, &literal(&[(":status", "103")]));
            [early.repeat(if id % 8 < 4 { 3 } else { 500 }), good].concat()
        }
        _ => good,
    }
}

/// A violation of the protocol.
fn garbage(id: u32) -> Vec<u8> {
    match id / 2 % 6 {
        0 => frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        1 => b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec(),
        2 => frame(DATA, 0, 0, b"x"),
        3 => frame(HEADERS, END_HEADERS, id, &[0xff; 16]),
        4 => frame(RESET, 0, id, &2_u32.to_be_bytes()),
        _ => vec![0xff; 64],
    }
}

fn respond(id: u32, message: &[u8], status: &str) -> Vec<u8> {
    let head = literal(&[(":status", "200"), ("content-type", "application/grpc")]);
    let framed = [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat();
    let trailers = literal(&[("grpc-status", status)]);
    [
        frame(HEADERS, END_HEADERS, id, &head),
        frame(DATA, 0, id, &framed),
        frame(HEADERS, END_HEADERS | END, id, &trailers),
    ]
    .concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers that are not compressed.
fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    fields.iter().flat_map(field).collect()
}

/// A field of bytes, a string or a message, of less than 16 KiB.
fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = [(bytes.len() & 0x7f | 0x80) as u8, (bytes.len() >> 7) as u8];
    [&[number << 3 | 2], &length[..], bytes].concat()
}

/// The fields of bytes of a message, up to the first one that cannot be read.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    while let Some(key) = varint(&mut message) {
        let Some(value) = varint(&mut message) else { break };
        match key & 7 {
            0 => {}
            2 => match message.split_at_checked(value as usize) {
                Some((bytes, rest)) => {
                    found.push((key >> 3, bytes));
                    message = rest;
                }
                None => break,
            },
            _ => break,
        }
    }
    found
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
