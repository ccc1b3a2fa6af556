//! Certificates of clients and of this server: only those of the right authority, in their time, are good.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parm_config::{Identity, Remote, Tls};
use parm_oip::client;
use parm_oip::instance::CallError;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use crate::common::server::{Server, config};

const MODEL: &str = r#"{"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
    "instances": [{"synthetic": {}, "roles": ["deployed"]}]}"#;

/// A folder with two authorities and what they signed.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("parm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for authority in ["ours", "theirs"] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, authority);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            std::fs::write(folder.join(format!("{authority}.pem")), issuer.pem()).unwrap();
            for (kind, until) in [("good", 2100), ("expired", 2020)] {
                let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
                (params.not_before, params.not_after) =
                    (date_time_ymd(2019, 1, 1), date_time_ymd(until, 1, 1));
                let key = KeyPair::generate().unwrap();
                let signed = params.signed_by(&key, &issuer).unwrap();
                std::fs::write(folder.join(format!("{authority}-{kind}.pem")), signed.pem()).unwrap();
                std::fs::write(folder.join(format!("{authority}-{kind}.key")), key.serialize_pem()).unwrap();
            }
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn identity(&self, name: &str) -> Identity {
        Identity { certificate: self.file(&format!("{name}.pem")), key: self.file(&format!("{name}.key")) }
    }

    /// A server that demands certificates of ours.
    fn demands(&self) -> String {
        let Identity { certificate, key } = self.identity("ours-good");
        let tls = Tls { certificate, key, client_ca: Some(self.file("ours.pem")) };
        format!(r#""tls": {},"#, serde_json::to_string(&tls).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start(
    models: &str,
    more: &str,
) -> (parm_serving::server::Addresses, tokio::sync::mpsc::Sender<parm_serving::server::Order>) {
    let (orders, told) = tokio::sync::mpsc::channel(1);
    let embed = std::sync::Arc::new(parm_serving::NoModels);
    let running = parm_serving::server::Running::start(config(models, more), embed).await.unwrap();
    let at = running.addresses;
    tokio::spawn(running.serve(told));
    (at, orders)
}

fn remote(scheme: &str, port: u16, ca: &Path, tls: Option<Identity>) -> Remote {
    Remote { url: format!("{scheme}://localhost:{port}"), ca: Some(ca.to_owned()), tls, ..Remote::default() }
}

#[tokio::test]
async fn a_server_demands_certificates_of_its_authority_on_all_addresses() {
    let folder = Folder::new("client-ca");
    let (at, _orders) = start(MODEL, &format!(r#"{} "admin": "127.0.0.1:0","#, folder.demands())).await;
    for (scheme, address) in
        [("https", at.http.unwrap()), ("grpcs", at.grpc.unwrap()), ("https", at.admin.unwrap())]
    {
        for (identity, is_good) in [
            (Some("ours-good"), true),
            (None, false),
            (Some("theirs-good"), false),
            (Some("ours-expired"), false),
        ] {
            let identity = identity.map(|name| folder.identity(name));
            let remote = remote(scheme, address.port(), &folder.file("ours.pem"), identity.clone());
            let instance = client::connect(&remote, address, 1 << 20).unwrap();
            let answer = instance.ready("m", "").await;
            // At the address of who runs it, there are no models: 404 is an answer.
            let reached = matches!(answer, Ok(()) | Err(CallError::Failed(_) | CallError::Refused(_)));
            assert_eq!(reached, is_good, "{scheme} {identity:?}: {answer:?}");
        }
    }
    // A key that is another certificate's is found before anything is sent.
    let mixed = Identity { key: folder.file("theirs-good.key"), ..folder.identity("ours-good") };
    let remote = remote("https", 1, &folder.file("ours.pem"), Some(mixed));
    let error = client::connect(&remote, at.http.unwrap(), 1 << 20).err().unwrap().to_string();
    assert!(error.contains("theirs-good.key"), "{error}");
}

#[tokio::test]
async fn a_server_shows_its_certificate_to_instances() {
    let folder = Folder::new("remote-tls");
    let (behind, _orders) = start(MODEL, &folder.demands()).await;
    let front = |tls: &str| {
        let (url, ca) =
            (format!("https://localhost:{}", behind.http.unwrap().port()), folder.file("ours.pem"));
        MODEL.replace(r#"{"synthetic": {}"#, &format!(r#"{{"remote": {{"url": "{url}", "ca": {ca:?}{tls}}}"#))
    };
    let shows = |name: &str| {
        let Identity { certificate, key } = folder.identity(name);
        front(&format!(r#", "tls": {{"certificate": {certificate:?}, "key": {key:?}}}"#))
    };
    let good = Server::start(&shows("ours-good"), "").await;
    let body = r#"{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [3]}]}"#;
    let reply = crate::common::http::post(good.http(), "/v2/models/m/infer", body).await;
    assert_eq!((reply.code, &reply.json()["outputs"][0]["data"]), (200, &serde_json::json!([3.0])));
    for wrong in [front(""), shows("theirs-good"), shows("ours-expired")] {
        let (at, _orders) = start(&wrong, "").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let reply = crate::common::http::get(at.http.unwrap(), "/v2/models/m/ready").await;
        assert_eq!(reply.code, 503, "{reply:?}");
    }
}
