//! The saboteur over HTTP/1.1 with JSON.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Fault, Shared, TOO_LARGE};

pub(super) fn converse(shared: &Shared, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut late = Vec::new();
    while let Some((path, body)) = read(&mut reader)? {
        if !path.ends_with("/infer") {
            stream.write_all(&reply(200, &json!({})))?;
            continue;
        }
        let fault = shared.fault();
        // Requests may contain NaN, which is not JSON.
        let request = serde_json::from_str(&String::from_utf8_lossy(&body).replace("NaN", "null"))?;
        let answer = answer(&request, fault == Some(Fault::NotANumber) && path.contains("parity"));
        let before = shared.swap(answer.clone());
        let mut out = std::mem::take(&mut late);
        match fault {
            Some(Fault::Twice) => out.extend(answer.repeat(2)),
            Some(Fault::TwiceLater) => {
                out.extend(&answer);
                late = answer;
            }
            Some(Fault::Unrequested) => {
                out.extend(&answer);
                stream.write_all(&out)?;
                thread::sleep(Duration::from_millis(3));
                out = answer;
            }
            Some(Fault::Swapped) if !before.is_empty() => out.extend(before),
            Some(Fault::Refused) => out.extend(reply(400, &json!({"error": "sabotage"}))),
            Some(Fault::Garbage) => out.extend([0xff, b'\r', b'\n', 0, 17]),
            Some(Fault::Half) => {
                out.extend(&answer[..answer.len() / 2]);
                return stream.write_all(&out);
            }
            Some(Fault::None) => return Ok(()),
            Some(Fault::Interim) => {
                let interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
                out.extend(interim.repeat(if path.len().is_multiple_of(2) { 3 } else { 50_000 }));
                out.extend(answer);
            }
            _ => out.extend(answer),
        }
        stream.write_all(&out)?;
    }
    Ok(())
}

/// Reads a request: its path and its body. None at the end of the connection.
fn read(reader: &mut impl BufRead) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut line, mut path, mut length) = (String::new(), String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end().to_ascii_lowercase();
        if path.is_empty() {
            text.split(' ').nth(1).unwrap_or_default().clone_into(&mut path);
        } else if let Some(found) = text.strip_prefix("content-length:") {
            length = found.trim().parse().unwrap_or(0);
        } else if text.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((path, body)))
}

/// The sums of the rows of a request, or NaN in their place.
fn answer(request: &Value, not_a_number: bool) -> Vec<u8> {
    let input = &request["inputs"][0];
    let rows = input["shape"][0].as_u64().unwrap_or(0) as usize;
    let values: Vec<f64> = input["data"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|value| value.as_f64().unwrap_or(f64::NAN))
        .collect();
    if values.iter().any(|value| value.abs() >= TOO_LARGE) {
        return reply(400, &json!({"error": "row out of range"}));
    }
    let sums = values.chunks(values.len() / rows.max(1)).map(|row| row.iter().sum::<f64>());
    // NaN is null in JSON.
    let sums: Vec<Option<f64>> =
        sums.map(|sum| Some(sum).filter(|sum| sum.is_finite() && !not_a_number)).collect();
    let output = json!({"name": "y", "datatype": "FP32", "shape": [rows, 1], "data": sums});
    reply(200, &json!({"model_name": null, "id": request["id"], "outputs": [output]}))
}

fn reply(code: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
