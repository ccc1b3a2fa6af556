//! The URL and the headers of a server.

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, USER_AGENT,
};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::{Error, PassedHeaderError};
use crate::http::{Form, HEADER_LENGTH};
use crate::instance::Headers;
use parm_config::{Encoding, Identity, Remote};

/// Headers that the client sets itself; neither the configuration nor a client's request may set them.
const OWN: [HeaderName; 10] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The configuration of a server.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) protocol: Protocol,
    /// True for TLS.
    pub(super) secure: bool,
    /// The host name or address.
    pub(super) host: String,
    pub(super) port: u16,
    /// The authority that is sent to the server.
    pub(super) authority: Authority,
    /// The name in its certificate.
    pub(super) server_name: String,
    /// The path before `/v2`.
    pub(super) prefix: String,
    /// The file of the authorities to trust.
    pub(super) ca: Option<std::path::PathBuf>,
    /// The client certificate.
    pub(super) identity: Option<Identity>,
    headers: HeaderMap,
}

/// The protocol and form of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP with tensors in this form; none: the one that the server supports.
    Http(Option<Form>),
    Grpc,
}

impl Target {
    pub(super) fn new(remote: &Remote) -> Result<Self, Error> {
        let wrong = |problem: &str| Error::Url { url: remote.url.clone(), problem: problem.to_owned() };
        let uri: Uri = remote
            .url
            .parse()
            .map_err(|error: http::uri::InvalidUri| wrong(&format!("which is invalid: {error}")))?;
        let (secure, grpc) = match uri.scheme_str() {
            Some("http") => (false, false),
            Some("https") => (true, false),
            Some("grpc") => (false, true),
            Some("grpcs") => (true, true),
            _ => return Err(wrong("expected a URL that begins with http://, https://, grpc:// or grpcs://")),
        };
        let protocol = match (remote.encoding, grpc) {
            (Encoding::Auto, true) | (Encoding::Grpc, _) => Protocol::Grpc,
            (Encoding::Auto, false) => Protocol::Http(None),
            (Encoding::Json, false) => Protocol::Http(Some(Form::Json)),
            (Encoding::Binary, false) => Protocol::Http(Some(Form::Binary)),
            (Encoding::Json | Encoding::Binary, true) => {
                return Err(wrong("which is for gRPC, and an encoding for HTTP"));
            }
        };
        let authority = uri.authority().ok_or_else(|| wrong("expected a host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("expected a URL without a password: use a header"));
        }
        if uri.query().is_some() {
            return Err(wrong("expected a URL without a query"));
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        if protocol == Protocol::Grpc && !prefix.is_empty() {
            return Err(wrong("expected a URL without a path for gRPC"));
        }
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            "" if grpc => return Err(wrong("expected a URL with a port")),
            "" => {
                if secure {
                    443
                } else {
                    80
                }
            }
            // The parser takes an invalid port for a missing one.
            port => {
                let port = port.trim_start_matches(':').parse().ok().filter(|&port: &u16| port > 0);
                port.ok_or_else(|| wrong("expected a port from 1 to 65535"))?
            }
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(wrong("expected a host"));
        }
        let authority = match &remote.host {
            None => authority.clone(),
            Some(host) => host.parse().map_err(|error: http::uri::InvalidUri| Error::Header {
                name: "host".to_owned(),
                problem: format!("found '{host}': {error}"),
            })?,
        };
        Ok(Self {
            protocol,
            secure,
            server_name: remote.server_name.clone().unwrap_or_else(|| host.clone()),
            host,
            port,
            authority,
            prefix,
            ca: remote.ca.clone(),
            identity: remote.tls.clone(),
            headers: headers(remote)?,
        })
    }

    /// The headers of a call: those of the configuration, and those of the client's request that the
    /// configuration does not set.
    pub(super) fn headers(&self, passed_on: &Headers) -> HeaderMap {
        let mut headers = self.headers.clone();
        for (name, value) in passed_on.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
                && !is_own(&name)
            {
                headers.entry(name).or_insert(value);
            }
        }
        headers
    }

    pub(super) fn scheme(&self) -> Scheme {
        if self.secure { Scheme::HTTPS } else { Scheme::HTTP }
    }
}

fn headers(remote: &Remote) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("parm/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &remote.headers {
        let wrong = |problem: &str| Error::Header { name: name.clone(), problem: problem.to_owned() };
        let parsed = HeaderName::try_from(name).map_err(|_| wrong("expected a valid name"))?;
        if is_own(&parsed) {
            return Err(wrong("each call sets it, expected another header"));
        }
        // The value may be secret.
        let mut value =
            HeaderValue::try_from(value).map_err(|_| wrong("its value has invalid characters"))?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// Checks that a client's header may be passed on.
pub(super) fn may_be_passed_on(name: &str) -> Result<(), PassedHeaderError> {
    match HeaderName::from_lowercase(name.as_bytes()) {
        Err(_) => Err(PassedHeaderError::Name(name.to_owned())),
        Ok(name) if is_own(&name) => Err(PassedHeaderError::Own(name)),
        Ok(_) => Ok(()),
    }
}

fn is_own(name: &HeaderName) -> bool {
    OWN.contains(name) || name == HEADER_LENGTH || name.as_str().starts_with("grpc-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, encoding: Encoding) -> Result<Target, String> {
        let remote = Remote { url: url.to_owned(), encoding, ..Remote::default() };
        Target::new(&remote).map_err(|error| error.to_string())
    }

    #[test]
    fn urls_give_host_port_and_protocol() {
        let http = |form| Protocol::Http(form);
        for (url, encoding, protocol, secure, host, port, prefix) in [
            ("http://a", Encoding::Auto, http(None), false, "a", 80, ""),
            ("https://a.b/", Encoding::Json, http(Some(Form::Json)), true, "a.b", 443, ""),
            ("http://a:81/x/y/", Encoding::Binary, http(Some(Form::Binary)), false, "a", 81, "/x/y"),
            ("http://a:81", Encoding::Grpc, Protocol::Grpc, false, "a", 81, ""),
            ("grpc://[::1]:8001", Encoding::Auto, Protocol::Grpc, false, "::1", 8001, ""),
            ("grpcs://127.0.0.1:1/", Encoding::Grpc, Protocol::Grpc, true, "127.0.0.1", 1, ""),
        ] {
            let target = target(url, encoding).unwrap();
            assert_eq!(
                (target.protocol, target.secure, &*target.host, target.port, &*target.prefix),
                (protocol, secure, host, port, prefix),
                "{url}"
            );
            assert!(url.contains(target.authority.as_str()), "{url}");
            assert_eq!(target.server_name, host);
        }
    }

    #[test]
    fn urls_of_no_model_server_are_refused() {
        for (url, encoding, expected) in [
            ("", Encoding::Auto, "found the URL '', which is invalid: empty string"),
            ("a:80", Encoding::Auto, "expected a URL that begins with http://"),
            ("ftp://a", Encoding::Auto, "expected a URL that begins with http://"),
            ("http://", Encoding::Auto, "which is invalid"),
            ("http://:80", Encoding::Auto, "expected a host"),
            ("http://a b", Encoding::Auto, "which is invalid: invalid uri"),
            ("http://me:secret@a", Encoding::Auto, "expected a URL without a password"),
            ("http://a/?b", Encoding::Auto, "expected a URL without a query"),
            ("http://a:0", Encoding::Auto, "expected a port from 1 to 65535"),
            ("http://a:99999", Encoding::Auto, "expected a port from 1 to 65535"),
            ("http://a:", Encoding::Auto, "expected a port from 1 to 65535"),
            ("http://[::1]:x", Encoding::Auto, "expected a port from 1 to 65535"),
            ("grpc://a", Encoding::Auto, "expected a URL with a port"),
            ("grpc://a:1/b", Encoding::Auto, "expected a URL without a path"),
            ("grpc://a:1", Encoding::Json, "an encoding for HTTP"),
        ] {
            let error = target(url, encoding).unwrap_err();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }

    #[test]
    fn the_configurations_headers_replace_the_clients() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let remote = Remote {
            url: "http://a".to_owned(),
            host: Some("b.c".to_owned()),
            headers: [header("Authorization", "secret"), header("X-Request-Id", "ours")].into(),
            server_name: Some("d".to_owned()),
            ..Remote::default()
        };
        let target = Target::new(&remote).unwrap();
        assert_eq!((target.authority.as_str(), &*target.host, &*target.server_name), ("b.c", "a", "d"));
        let passed_on: Headers = [
            header("x-request-id", "theirs"),
            header("traceparent", "00-1"),
            header("content-type", "multipart/form-data"),
            header("content-length", "7"),
            header("grpc-timeout", "1m"),
            header("inference-header-content-length", "7"),
            header("bad name", "x"),
            header("bad-value", "\n"),
        ]
        .into();
        let headers = target.headers(&passed_on);
        let mut found: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        found.sort_unstable();
        let agent = concat!("parm/", env!("CARGO_PKG_VERSION"));
        let expected = [
            ("authorization", "secret"),
            ("traceparent", "00-1"),
            ("user-agent", agent),
            ("x-request-id", "ours"),
        ];
        assert_eq!(found, expected);
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn headers_that_cannot_be_sent_are_refused() {
        for (host, name, value, expected) in [
            (None, "a b", "", "header 'a b': expected a valid name"),
            (None, "a", "b\nc", "header 'a': its value has invalid characters"),
            (None, "Host", "a", "header 'Host': each call sets it"),
            (None, "Content-Type", "a", "header 'Content-Type': each call sets it"),
            (Some("a b"), "a", "b", "header 'host': found 'a b'"),
        ] {
            let remote = Remote {
                url: "http://a".to_owned(),
                host: host.map(str::to_owned),
                headers: [(name.to_owned(), value.to_owned())].into(),
                ..Remote::default()
            };
            let error = Target::new(&remote).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
