//! The configuration of a server: `parm-serve.json`, see parm-serve.json(5).
//!
//! What is typed here is what the file says; [`Config::check`] finds what cannot work, and
//! [`engine_config`] makes of it what the engine is told.

mod code;
mod datatype;
mod load;
mod policy;
mod synthetic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use parm_engine::{Agreement, Balance, Delay, Ejection, Hedge, When};
use parm_workload::faults::{Behavior, Faults};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use code::CodeChoice;
pub use datatype::{Datatype, UnknownDatatype};
pub use load::{ConfigError, InstancesError, schema};
pub use policy::{PolicyError, calibration_of, code_of, engine_config, made_for};
pub use synthetic::{Overhead, SyntheticError, SyntheticMember};

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address for HTTP; null: none.
    pub http: Option<SocketAddr>,
    /// The address for gRPC; null: none.
    pub grpc: Option<SocketAddr>,
    /// The address for metrics, the status page and the model repository; null: that for HTTP.
    pub admin: Option<SocketAddr>,
    /// TLS for all addresses; null: none.
    pub tls: Option<Tls>,
    /// Who may ask; null: everybody.
    pub keys: Keys,
    /// Who may load and unload models.
    pub management: Management,
    /// What clients may ask of the server.
    pub limits: Limits,
    /// How long SIGTERM waits for queries to finish, in ms.
    pub drain_ms: u64,
    /// The models.
    pub models: Vec<Model>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: Some(SocketAddr::from(([127, 0, 0, 1], 8000))),
            grpc: Some(SocketAddr::from(([127, 0, 0, 1], 8001))),
            admin: None,
            tls: None,
            keys: Keys::default(),
            management: Management::default(),
            limits: Limits::default(),
            drain_ms: 30_000,
            models: Vec::new(),
        }
    }
}

/// The server's certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and those that it rests on, a PEM file.
    pub certificate: PathBuf,
    /// Its private key, a PEM file.
    pub key: PathBuf,
    /// The authorities whose certificates clients must show, a PEM file; null: clients show none.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// A certificate to show, and its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The certificate and those that it rests on, a PEM file.
    pub certificate: PathBuf,
    /// Its private key, a PEM file.
    pub key: PathBuf,
}

/// Who may load and unload models, and switch coding on again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Management {
    /// Who shows an admin key; without admin keys, who reaches the address `admin`; without that, nobody.
    #[default]
    Guarded,
    /// Without admin keys, everybody.
    Open,
}

/// Files of keys, one on each line; a request brings one as `Authorization: Bearer KEY` or
/// `X-API-Key: KEY`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// Who may use models.
    pub inference: Option<PathBuf>,
    /// Who may load and unload models. Either key shows metrics and the status page.
    pub admin: Option<PathBuf>,
}

/// What clients may ask of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most bytes of a body, before and after it is unpacked, and of an instance's answer.
    pub body_bytes: usize,
    /// The most bytes of all bodies and answers under way, over all connections; more are told 503.
    pub bytes: usize,
    /// The most bytes of the headers of a request.
    pub header_bytes: usize,
    /// The most rows of a request.
    pub rows: usize,
    /// The most requests at once; more are told 503.
    pub requests: usize,
    /// The most connections at once; more wait.
    pub connections: usize,
    /// How long headers may take to arrive, in ms; also the first ones of a connection.
    pub header_ms: u64,
    /// How long a body may take to arrive, in ms, and how long a client may not read its answer.
    pub body_ms: u64,
    /// How long a connection is kept on which nothing is asked, in ms.
    pub idle_ms: u64,
    /// The headers of a request that go on to instances.
    pub passed_headers: PassedHeaders,
}

/// The headers of a request that go on to instances. What exceeds the limits is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PassedHeaders {
    /// Their names, in lower case.
    pub names: Vec<String>,
    /// The most of them.
    pub count: usize,
    /// The most bytes of the value of one.
    pub bytes: usize,
}

impl Default for PassedHeaders {
    fn default() -> Self {
        Self {
            names: ["x-request-id", "traceparent", "tracestate"].map(str::to_owned).to_vec(),
            count: 16,
            bytes: 1024,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            bytes: 1 << 30,
            header_bytes: 64 << 10,
            rows: 4096,
            requests: 4096,
            connections: 4096,
            header_ms: 10_000,
            body_ms: 30_000,
            idle_ms: 75_000,
            passed_headers: PassedHeaders::default(),
        }
    }
}

/// One version of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools)] // options that are independent of each other
pub struct Model {
    /// Its name, for clients.
    pub name: String,
    /// Its version.
    pub version: String,
    /// True if this is the version of requests that name none; without one, the highest.
    pub default: bool,
    /// False: the model is there, but not loaded until a client asks for it.
    pub load: bool,
    /// Its inputs; none: as the first instance says.
    pub inputs: Vec<TensorSpec>,
    /// Its outputs; none: as the first instance says.
    pub outputs: Vec<TensorSpec>,
    /// What the models are called at the instances.
    pub names: Names,
    /// The files of embedded models.
    pub files: Files,
    /// How queries are put together.
    pub batch: Batch,
    /// What becomes of parameters of requests that the server does not perform itself.
    pub parameters: ParametersPolicy,
    /// What is done against late and lost answers.
    pub redundancy: Redundancy,
    /// Whether instances have one role each.
    pub placement: Placement,
    /// When a query is answered with something else than its prediction.
    pub answer: When,
    /// Measure what would be rebuilt, but never answer with it.
    pub shadow: bool,
    /// The answer where there is none.
    pub fallback: Fallback,
    /// What becomes of rows with values that are not finite.
    pub non_finite: NonFinite,
    /// Which of several free instances gets work.
    pub balance: Balance,
    /// How long a request may take that says nothing of it, in ms; also the most that one may ask
    /// for.
    pub deadline_ms: f64,
    /// How long one call of an instance may take, in ms.
    pub call_timeout_ms: f64,
    /// The most calls for one piece of work.
    pub attempts: u8,
    /// The most queries that are held.
    pub max_queries: usize,
    /// The most batches that wait for an instance.
    pub max_queue: usize,
    /// Tell instances to stop calls that nobody needs.
    pub cancel_running: bool,
    /// When instances are taken out of rotation; null: never.
    pub ejection: Option<Ejection>,
    /// Queries of zeros that each instance answers before it gets work.
    pub warm_up: u32,
    /// What runs the models.
    pub instances: Vec<Instances>,
    /// What befalls several synthetic instances at once.
    pub faults: Faults,
    /// What the simulator takes for times that a server needs itself.
    pub overhead: Overhead,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            name: String::new(),
            version: "1".to_owned(),
            default: false,
            load: true,
            inputs: Vec::new(),
            outputs: Vec::new(),
            names: Names::default(),
            files: Files::default(),
            batch: Batch::default(),
            parameters: ParametersPolicy::default(),
            redundancy: Redundancy::default(),
            placement: Placement::default(),
            answer: When::default(),
            shadow: false,
            fallback: Fallback::default(),
            non_finite: NonFinite::default(),
            balance: Balance::default(),
            deadline_ms: 1000.0,
            call_timeout_ms: 1000.0,
            attempts: 3,
            max_queries: 65_536,
            max_queue: 16_384,
            cancel_running: false,
            ejection: Some(Ejection::default()),
            warm_up: 0,
            instances: Vec::new(),
            faults: Faults::default(),
            overhead: Overhead::default(),
        }
    }
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its element type.
    #[schemars(with = "String")]
    pub datatype: Datatype,
    /// The shape of one row; −1: any size, and the model is served uncoded.
    pub shape: Vec<i64>,
}

/// What the models are called at remote instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Names {
    /// The deployed model; null: as clients call it.
    pub deployed: Option<String>,
    /// The parity models, by index; those that are not named are `NAME-parity-J`.
    pub parity: Vec<String>,
    /// The approximate model; null: `NAME-cheap`.
    #[serde(rename = "cheap")]
    pub approximate: Option<String>,
    /// The version at the instances; empty: their default one.
    pub version: String,
}

/// The files of embedded models: native checkpoints or TorchScript.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// The deployed model.
    pub deployed: Option<PathBuf>,
    /// The parity models, by index; none: those of the code directory.
    pub parity: Vec<PathBuf>,
    /// The approximate model.
    #[serde(rename = "cheap")]
    pub approximate: Option<PathBuf>,
}

/// How queries are put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// The most queries of a batch.
    pub max_size: usize,
    /// How long a query waits for others, in ms.
    pub delay_ms: f64,
    /// Batches are kept so small that calls take at most this long, in ms; null: always `max_size`.
    pub target_ms: Option<f64>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { max_size: 1, delay_ms: 0.0, target_ms: None }
    }
}

/// What becomes of parameters of requests that the server does not perform itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ParametersPolicy {
    /// They go on to instances; batches and coding groups hold requests whose parameters are equal.
    #[default]
    PassOn,
    /// A request that has some is told 400.
    Refuse,
}

/// What is done against late and lost answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "policy", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Redundancy {
    /// Nothing. With more instances this is the baseline of equal resources.
    #[default]
    None,
    /// Each batch is sent to several instances; the first answer counts.
    Replicate {
        /// How many, in all.
        copies: usize,
    },
    /// What is late is sent a second time.
    Hedge(Hedge),
    /// Each batch is also sent to an approximate model.
    #[serde(rename = "cheap")]
    Approximate,
    /// Coding groups.
    Coded(Box<Coded>),
}

impl Redundancy {
    /// Its name, as in the file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Replicate { .. } => "replicate",
            Self::Hedge(_) => "hedge",
            Self::Approximate => "cheap",
            Self::Coded(_) => "coded",
        }
    }
}

/// Coding groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Coded {
    /// The code.
    pub code: CodeChoice,
    /// The inputs that are coded; none: all.
    pub inputs: Vec<String>,
    /// The outputs that are rebuilt; none: all.
    pub outputs: Vec<String>,
    /// How long a batch waits for others to fill its group, in ms.
    pub group_delay_ms: f64,
    /// Complete groups that do not fill in time with known queries; otherwise they are coded
    /// shorter.
    pub complete: bool,
    /// When the live agreement switches coding off; null: never.
    pub agreement: Option<Agreement>,
    /// The version of the deployed model that the code was made for: coding is off while instances
    /// answer with another one; null: any.
    pub made_for: Option<String>,
    /// Send again what is late and what coding cannot rebuild; null: never.
    pub hedge: Option<Hedge>,
    /// Of codes that interpolate: a row whose norm is more than so many times the usual one is not coded;
    /// null: all are.
    pub max_scale: Option<f64>,
    /// A calibration of parm-score, which makes probabilities of being right of the confidences of
    /// reconstructions; null: they stay what they are.
    pub calibration: Option<PathBuf>,
}

impl Default for Coded {
    fn default() -> Self {
        Self {
            code: CodeChoice::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            group_delay_ms: 20.0,
            complete: true,
            agreement: None,
            made_for: None,
            hedge: None,
            max_scale: Some(100.0),
            calibration: None,
        }
    }
}

/// Where models are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Each instance has one role.
    #[default]
    Apart,
    /// All instances have all roles but that of the approximate model, unless they say otherwise.
    Pooled,
}

/// The answer where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// An error: 504 at the deadline, 503 where all calls failed.
    #[default]
    Error,
    /// Zeros, and the response says which rows they are and why.
    Zeros,
}

/// What becomes of rows with values that are not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NonFinite {
    /// They are answered, but not coded with others.
    #[default]
    Pass,
    /// A request with one is told 400.
    Refuse,
}

/// Instances of one kind: `remote`, `embedded` or `synthetic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Instances {
    /// A model server; an instance for each address that its name has.
    pub remote: Option<Remote>,
    /// Models inside the server's process.
    pub embedded: Option<Embedded>,
    /// No models: for experiments.
    pub synthetic: Option<Synthetic>,
    /// Their roles: `deployed`, `cheap`, `parity-0`, …; none: all where the placement is pooled.
    pub roles: Vec<String>,
    /// Calls that one does at once.
    pub capacity: usize,
}

impl Default for Instances {
    fn default() -> Self {
        Self { remote: None, embedded: None, synthetic: None, roles: Vec::new(), capacity: 1 }
    }
}

/// A model server of the Open Inference Protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Remote {
    /// Where it is: `http://HOST:PORT`, `https://…`, `grpc://…` or `grpcs://…`.
    pub url: String,
    /// How tensors go over the wire.
    pub encoding: Encoding,
    /// The Host header; null: that of the URL.
    pub host: Option<String>,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// What its certificate calls it; null: the host of the URL.
    pub server_name: Option<String>,
    /// The certificates that are trusted, a PEM file; null: those of the public authorities.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to it; null: none.
    pub tls: Option<Identity>,
    /// How often its name is looked up again, in ms.
    pub resolve_ms: u64,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            url: String::new(),
            encoding: Encoding::default(),
            host: None,
            headers: BTreeMap::new(),
            server_name: None,
            ca: None,
            tls: None,
            resolve_ms: 5000,
        }
    }
}

/// How tensors go over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// What the server understands.
    #[default]
    Auto,
    /// JSON over HTTP.
    Json,
    /// JSON and binary tensors over HTTP.
    Binary,
    /// gRPC.
    Grpc,
}

impl Encoding {
    /// All encodings.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Json, Self::Binary, Self::Grpc];
}

/// Models inside this process, on libtorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Embedded {
    /// How many.
    pub count: usize,
    /// Where: `cpu`, `cuda`, `cuda:N` or `auto`.
    pub device: String,
    /// Whether they make coded queries there, of queries that are sent to them as they are; by default on
    /// GPUs, but not on CPUs.
    pub encode: Option<bool>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { count: 1, device: "cpu".to_owned(), encode: None }
    }
}

/// Instances that answer with sums of their inputs, after a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Synthetic {
    /// How many.
    pub count: usize,
    /// Where their randomness comes from.
    pub seed: u64,
    /// How they behave.
    pub behavior: Behavior,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self { count: 1, seed: 0, behavior: Behavior::default() }
    }
}
