//! Calls over TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parm_config::{Encoding, Remote};
use parm_oip::client::{Error, connect};
use parm_oip::instance::{CallContext, CallError};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::fake::*;

/// A server whose certificate calls it so, and a file that vouches for it.
async fn server(name: &str) -> (Fake, PathBuf) {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let chain = vec![certified.cert.der().clone()];
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let fake = Fake::start(Some(tls), |seen| {
        let response = if seen.asked.starts_with("POST /v2/") { answer() } else { json(404, "HTTP/2") };
        Box::pin(async { response })
    })
    .await;
    let ca = folder.join(format!("ca-{name}-{}.pem", fake.address.port()));
    std::fs::write(&ca, certified.cert.pem()).unwrap();
    (fake, ca)
}

fn remote(url: String, ca: &Path) -> Remote {
    Remote { url, ca: Some(ca.to_owned()), encoding: Encoding::Json, ..Remote::default() }
}

async fn called(remote: &Remote, fake: &Fake) -> Result<Vec<f32>, CallError> {
    let client = connect(remote, fake.address, LIMIT).unwrap();
    client.infer(request(3), CallContext::default()).await.map(|answer| floats(&answer))
}

fn refusal(called: Result<Vec<f32>, CallError>) -> String {
    match called {
        Err(CallError::Unreachable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_is_trusted_for_its_certificate_and_name() {
    let (fake, ca) = server("model.example").await;
    let by_name = remote("https://model.example".to_owned(), &ca);
    assert_eq!(called(&by_name, &fake).await, Ok(vec![1.5]));
    let by_address = remote(format!("https://{}", fake.address), &ca);
    let error = refusal(called(&by_address, &fake).await);
    assert!(error.contains("not valid for name"), "{error}");
    let named = Remote { server_name: Some("model.example".to_owned()), ..by_address };
    assert_eq!(called(&named, &fake).await, Ok(vec![1.5]));
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_called() {
    let (fake, ca) = server("model.example").await;
    let (_, other) = server("model.example").await;
    for trusted in [Some(other), None] {
        let remote = Remote { ca: trusted, ..remote("https://model.example".to_owned(), &ca) };
        let error = refusal(called(&remote, &fake).await);
        assert!(error.contains("invalid peer certificate"), "{error}");
    }
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn grpc_over_tls_is_http_2() {
    let (fake, ca) = server("model.example").await;
    let remote = Remote { encoding: Encoding::Auto, ..remote("grpcs://model.example:443".to_owned(), &ca) };
    let error = called(&remote, &fake).await.unwrap_err();
    assert!(matches!(&error, CallError::Failed(error) if error.message == "HTTP/2"), "{error:?}");
    assert_eq!(fake.last().header("host"), Some("model.example:443"));
}

#[tokio::test]
async fn a_server_without_tls_is_unreachable() {
    let fake = Fake::new(|_| answer()).await;
    let (_, ca) = server("model.example").await;
    refusal(called(&remote("https://model.example".to_owned(), &ca), &fake).await);
}

#[test]
fn certificates_that_cannot_be_read_are_refused() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (missing, empty) = (folder.join("missing.pem"), folder.join("empty.pem"));
    std::fs::write(&empty, "nothing").unwrap();
    let address = "127.0.0.1:1".parse().unwrap();
    for (ca, expected) in [(missing, "missing.pem: "), (empty, "empty.pem: found no certificate")] {
        let error = connect(&remote("https://a".to_owned(), &ca), address, LIMIT).err().unwrap();
        assert!(
            matches!(error, Error::Certificates { .. }) && error.to_string().contains(expected),
            "{error}"
        );
    }
    let named =
        Remote { server_name: Some("a b".to_owned()), ..remote("https://a".to_owned(), Path::new("")) };
    let error = connect(&named, address, LIMIT).err().unwrap();
    assert!(matches!(error, Error::Url { .. }), "{error}");
}
