//! Access: which requests need a key, and the files of keys.

use std::path::Path;

use http::HeaderMap;

use super::error::StartError;
use parm_config::{Config, Management};
use parm_oip::{Error, Status};

/// The valid keys. Without any, no key is needed.
#[derive(Clone, Default)]
pub(super) struct Keys(Option<Vec<Vec<u8>>>);

impl Keys {
    /// No key is needed.
    fn none() -> Self {
        Self(None)
    }

    /// The keys of a file, one on each line; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// A file that cannot be read, or has no key.
    fn load(file: &Path) -> Result<Self, StartError> {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| StartError::Keys { file: file.to_owned(), error })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().to_vec()).collect();
        if keys.is_empty() {
            return Err(StartError::NoKey(file.to_owned()));
        }
        Ok(Self(Some(keys)))
    }

    /// Checks the key of a request, from `Authorization: Bearer KEY` or `X-API-Key: KEY`.
    ///
    /// # Errors
    /// The request has no key, or an unknown one.
    fn check(&self, headers: &HeaderMap) -> Result<(), Error> {
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
            Some(_) => Err(Error::new(Status::Unauthenticated, "found an unknown key")),
            None => Err(Error::new(
                Status::Unauthenticated,
                "found no key, expected the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            )),
        }
    }
}

/// The access rules of a server.
#[derive(Clone, Default)]
pub(super) struct Access {
    inference: Keys,
    admin: Keys,
    management: Management,
}

/// The kind of address that received a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// An address for clients.
    Public,
    /// The address `admin`.
    Admin,
}

impl Access {
    /// The access rules of a configuration.
    ///
    /// # Errors
    /// A file of keys that cannot be read, or has no key.
    pub(super) fn of(config: &Config) -> Result<Self, StartError> {
        let parm_config::Keys { inference, admin } = &config.keys;
        let keys =
            |file: &Option<std::path::PathBuf>| file.as_deref().map_or_else(|| Ok(Keys::none()), Keys::load);
        Ok(Self { inference: keys(inference)?, admin: keys(admin)?, management: config.management })
    }

    /// Checks that a request may use models.
    pub(super) fn inference(&self, headers: &HeaderMap) -> Result<(), Error> {
        self.inference.check(headers)
    }

    /// Checks that a request may read metrics, the status page and the index of models.
    pub(super) fn view(&self, headers: &HeaderMap) -> Result<(), Error> {
        match (&self.inference.0, &self.admin.0) {
            (Some(_), Some(_)) => self.inference.check(headers).or_else(|_| self.admin.check(headers)),
            (Some(_), None) => self.inference.check(headers),
            (None, _) => self.admin.check(headers),
        }
    }

    /// Checks that a request may load and unload models, and resume coding.
    pub(super) fn manage(&self, headers: &HeaderMap, port: Port) -> Result<(), Error> {
        if self.admin.0.is_none() && port == Port::Public && self.management != Management::Open {
            return Err(Error::new(
                Status::Forbidden,
                "management is off here: it needs an admin key, an admin address, or \"management\": \"open\"",
            ));
        }
        self.admin.check(headers)
    }
}

/// Compares with all bytes of all keys, so that the time reveals nothing about them.
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
    fn keys_are_read_from_both_headers_and_unknown_ones_are_refused() {
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
        let Err(error) = Keys::load(&file) else { panic!("loaded a file without a key") };
        assert!(error.to_string().contains("found no key"), "{error}");
        std::fs::write(&file, "# somebody\n secret \n").unwrap();
        Keys::load(&file).unwrap().check(&headers("x-api-key", "secret")).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(Keys::load(&file).is_err());
    }
}
