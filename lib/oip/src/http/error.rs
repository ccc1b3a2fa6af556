//! Errors in JSON.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::Error;
use super::{Body, json};

/// The body of an error.
#[must_use]
pub fn encode_error(error: &Error) -> Body {
    #[derive(Serialize)]
    struct ErrorJson<'a> {
        error: &'a str,
    }
    json::to_body(&ErrorJson { error: &error.message })
}

/// The error bodies of different servers.
#[derive(Deserialize)]
struct AnyError<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// Reads an error response: `{"error"}`, `{"detail"}` or `{"code", "message"}`, otherwise the body as text.
#[must_use]
pub fn decode_error(code: u16, body: &[u8]) -> Error {
    let fields = serde_json::from_slice::<AnyError>(body).ok();
    let said = fields.and_then(|fields| fields.error.or(fields.message).or(fields.detail));
    let message = match said {
        // A list of errors stays JSON.
        Some(value) => serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned()),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    };
    let message = if message.is_empty() { format!("status {code} without a message") } else { message };
    Error::from_http(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn errors_are_written_and_read() {
        let error = Error::new(Status::NotFound, "no \"m\"");
        let body = encode_error(&error).to_bytes();
        assert_eq!(body, r#"{"error":"no \"m\""}"#);
        assert_eq!(decode_error(404, &body), error);
    }

    #[test]
    fn errors_of_all_servers_are_read() {
        for (body, message) in [
            (r#"{"error":"Triton"}"#, "Triton"),
            (r#"{"detail":"FastAPI"}"#, "FastAPI"),
            (r#"{"detail":[{"loc":["body"],"msg":"m"}]}"#, r#"[{"loc":["body"],"msg":"m"}]"#),
            (r#"{"code":503,"type":"T","message":"TorchServe"}"#, "TorchServe"),
            (r#"{"error":null,"message":"m"}"#, "m"),
            ("<html>nginx</html>\n", "<html>nginx</html>"),
            ("{}", "{}"),
            ("\"x\"", "\"x\""),
            ("", "status 503 without a message"),
            (r#"{"error":""}"#, "status 503 without a message"),
        ] {
            assert_eq!(
                decode_error(503, body.as_bytes()),
                Error::new(Status::Unavailable, message),
                "{body}"
            );
        }
        assert_eq!(decode_error(500, b"\xff").message, "\u{fffd}");
    }
}
