//! Who may ask: keys from files.

use std::path::Path;

use http::HeaderMap;

use crate::oip::{Error, Status};

/// Keys that may be shown; of none everybody may ask.
#[derive(Clone, Default)]
pub struct Keys(Option<Vec<Vec<u8>>>);

impl Keys {
    /// Everybody may ask.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// The keys of a file, one on each line; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// A file that cannot be read, or has no key.
    pub fn load(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().to_vec()).collect();
        if keys.is_empty() {
            return Err(format!("{}: found no key, expected one on each line", file.display()));
        }
        Ok(Self(Some(keys)))
    }

    /// Sees whether a request shows a key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`.
    ///
    /// # Errors
    /// It shows none that is known.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Error> {
        let Some(keys) = &self.0 else { return Ok(()) };
        let bearer = headers.get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let bearer = bearer
            .and_then(|value| value.split_at_checked(7))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        let shown = bearer
            .map(|(_, key)| key.trim_ascii())
            .or(headers.get("x-api-key").map(http::HeaderValue::as_bytes));
        match shown {
            Some(key) if is_among(keys, key) => Ok(()),
            Some(_) => Err(Error::new(Status::Unauthenticated, "found a key that is not known")),
            None => Err(Error::new(
                Status::Unauthenticated,
                "found no key, expected the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            )),
        }
    }
}

/// Compares with all keys, and all their bytes, so that the time tells nothing of them.
fn is_among(keys: &[Vec<u8>], shown: &[u8]) -> bool {
    let same = |key: &&Vec<u8>| {
        let bytes = key.iter().zip(shown);
        bytes.fold(key.len() ^ shown.len(), |all, (a, b)| all | usize::from(a ^ b)) == 0
    };
    keys.iter().filter(same).count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn keys_are_shown_as_bearer_or_api_key_and_others_are_refused() {
        let keys = Keys(Some(vec![b"one".to_vec(), b"three".to_vec()]));
        for (name, value) in
            [("authorization", "Bearer one"), ("authorization", "bearer  three"), ("x-api-key", "three")]
        {
            keys.check(&headers(name, value)).unwrap();
        }
        for (name, value) in [
            ("authorization", "Bearer on"),
            ("authorization", "Bearer ones"),
            ("authorization", "Basic one"),
            ("authorization", "Bearer "),
            ("authorization", "Bear"),
            ("x-api-key", "two"),
            ("x-api-key", ""),
        ] {
            let error = keys.check(&headers(name, value)).unwrap_err();
            assert_eq!(error.status, Status::Unauthenticated, "{name}: {value}");
        }
        keys.check(&HeaderMap::new()).unwrap_err();
        Keys::none().check(&HeaderMap::new()).unwrap();
    }

    #[test]
    fn a_file_without_keys_is_refused() {
        let file = std::env::temp_dir().join(format!("parm-keys-{}", std::process::id()));
        std::fs::write(&file, "# nobody\n\n").unwrap();
        let Err(error) = Keys::load(&file) else { panic!("it has no key") };
        assert!(error.contains("found no key"), "{error}");
        std::fs::write(&file, "# somebody\n secret \n").unwrap();
        Keys::load(&file).unwrap().check(&headers("x-api-key", "secret")).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(Keys::load(&file).is_err());
    }
}
