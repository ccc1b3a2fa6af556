//! The configuration of a server: `parm-serve.json`, see parm-serve.json(5).
//!
//! The types mirror the file; their doc comments are the descriptions in the JSON schema.
//! [`Config::check`] finds invalid values, and [`engine_config`] translates a model to the engine's
//! configuration.

mod code;
mod datatype;
mod load;
mod policy;
mod synthetic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use parm::Task;
pub use parm_engine::{Agreement, Balance, Delay, Ejection, Hedge, When};
use parm_workload::faults::{Behavior, Faults};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use code::CodeChoice;
pub use datatype::{Datatype, UnknownDatatype};
pub use load::{ConfigError, InstancesError, schema};
pub use policy::{PolicyError, calibration_of, code_of, engine_config, made_for};
pub use synthetic::{Overhead, SyntheticError, SyntheticMember};

/// The configuration of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address for HTTP; null: no HTTP.
    pub http: Option<SocketAddr>,
    /// The address for gRPC; null: no gRPC.
    pub grpc: Option<SocketAddr>,
    /// The address for metrics, the status page and the model repository; null: the address for HTTP.
    pub admin: Option<SocketAddr>,
    /// TLS for all addresses; null: no TLS.
    pub tls: Option<Tls>,
    /// The keys that clients must send.
    pub keys: Keys,
    /// Whether clients without an admin key may load and unload models.
    pub management: Management,
    /// Limits on requests and connections.
    pub limits: Limits,
    /// How long the server waits for open requests after SIGTERM, in ms.
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
    /// The certificate with its intermediate certificates, a PEM file.
    pub certificate: PathBuf,
    /// Its private key, a PEM file.
    pub key: PathBuf,
    /// The authorities that sign client certificates, a PEM file; null: clients need no certificate.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// A client certificate, and its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The certificate with its intermediate certificates, a PEM file.
    pub certificate: PathBuf,
    /// Its private key, a PEM file.
    pub key: PathBuf,
}

/// Whether clients without an admin key may load and unload models, and resume coding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Management {
    /// With admin keys, nobody; otherwise the clients of the address `admin`, if there is one.
    #[default]
    Guarded,
    /// With admin keys, nobody; otherwise all clients.
    Open,
}

/// Files with one key on each line. A request sends a key as `Authorization: Bearer KEY` or
/// `X-API-Key: KEY`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// The keys that permit the use of models; null: no key is needed.
    pub inference: Option<PathBuf>,
    /// The keys that permit loading and unloading models, and resuming coding. Metrics and the status
    /// page accept either key.
    pub admin: Option<PathBuf>,
}

/// Limits on requests and connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most bytes of the body of a request, compressed and decompressed, and of an instance's answer.
    pub body_bytes: usize,
    /// The most bytes of all request and response bodies together; a request that would exceed it gets 503.
    pub bytes: usize,
    /// The most bytes of the headers of a request.
    pub header_bytes: usize,
    /// The most rows of a request.
    pub rows: usize,
    /// The most requests at once; further ones get 503.
    pub requests: usize,
    /// The most connections at once; further ones wait.
    pub connections: usize,
    /// How long the headers of a request may take to arrive, in ms. On a new connection the time counts
    /// from its opening.
    pub header_ms: u64,
    /// How long a body may take to arrive, in ms; also how long a client may leave its response unread.
    pub body_ms: u64,
    /// How long a connection without a request is kept open, in ms.
    pub idle_ms: u64,
    /// The headers of a request that are passed on to instances.
    pub passed_headers: PassedHeaders,
}

/// The headers of a request that are passed on to instances. Headers beyond the limits are dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PassedHeaders {
    /// Their names, in lower case.
    pub names: Vec<String>,
    /// The most headers of one request.
    pub count: usize,
    /// The most bytes of the value of one header.
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
#[allow(clippy::struct_excessive_bools)] // independent options
pub struct Model {
    /// The name that clients use.
    pub name: String,
    /// Its version.
    pub version: String,
    /// True: requests without a version get this one. If no version is the default, they get the highest.
    pub default: bool,
    /// False: the model is loaded only when a client asks for it.
    pub load: bool,
    /// Its inputs; empty: an instance is asked.
    pub inputs: Vec<TensorSpec>,
    /// Its outputs; empty: an instance is asked.
    pub outputs: Vec<TensorSpec>,
    /// What it predicts: how reconstructions are compared with the predictions that arrive later, and what their
    /// confidence is. null: what the code directory says, else `regress` if a prediction is one number, else
    /// `classify`.
    #[schemars(schema_with = "tasks")]
    pub task: Option<Task>,
    /// The names of the models at remote instances.
    pub names: Names,
    /// The files of embedded models.
    pub files: Files,
    /// How queries are batched.
    pub batch: Batch,
    /// What happens to parameters of requests that the server does not know.
    pub parameters: ParametersPolicy,
    /// The policy against late and lost answers.
    pub redundancy: Redundancy,
    /// Whether each instance runs one model or several.
    pub placement: Placement,
    /// When a query gets a reconstruction, or an answer of the approximate model, in place of its
    /// prediction.
    pub answer: When,
    /// True: predictions are rebuilt and compared with the real ones, but reconstructions are never
    /// sent to clients.
    pub shadow: bool,
    /// What a query gets if there is no answer at all.
    pub fallback: Fallback,
    /// What happens to rows with values that are not finite.
    pub non_finite: NonFinite,
    /// Which of several free instances gets work.
    pub balance: Balance,
    /// The time that a request may take, in ms; also the longest that a request may ask for.
    pub deadline_ms: f64,
    /// The time that one call of an instance may take, in ms.
    pub call_timeout_ms: f64,
    /// The most calls for one piece of work.
    pub attempts: u8,
    /// The most queries that are held.
    pub max_queries: usize,
    /// The most batches that wait for an instance.
    pub max_queue: usize,
    /// True: calls whose answers are no longer needed are cancelled.
    pub cancel_running: bool,
    /// When instances are ejected: get no work until a probe succeeds; null: never.
    pub ejection: Option<Ejection>,
    /// The number of queries of zeros that each instance answers before it gets work.
    pub warm_up: u32,
    /// The servers, embedded models or synthetic instances that run the model.
    pub instances: Vec<Instances>,
    /// Faults that several synthetic instances share.
    pub faults: Faults,
    /// Times of the server itself, for the simulator only.
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
            task: None,
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

fn tasks(_: &mut SchemaGenerator) -> Schema {
    let names = Task::ALL.iter().map(|task| Some(task.name())).chain([None]);
    json_schema!({"enum": names.collect::<Vec<_>>(), "default": null})
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
    /// The shape of one row. −1 stands for any size; such a model is not coded.
    pub shape: Vec<i64>,
}

/// The names of the models at remote instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Names {
    /// The deployed model; null: the name that clients use.
    pub deployed: Option<String>,
    /// The parity models, by index; without a name: `NAME-parity-J`, or the deployed model if that
    /// answers the parity queries.
    pub parity: Vec<String>,
    /// The approximate model; null: `NAME-cheap`.
    #[serde(rename = "cheap")]
    pub approximate: Option<String>,
    /// Their version; empty: the default version of the instances.
    pub version: String,
}

/// The files of embedded models, of any kind that parm-infer reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// The deployed model.
    pub deployed: Option<PathBuf>,
    /// The parity models, by index; empty: those of the code directory.
    pub parity: Vec<PathBuf>,
    /// The approximate model.
    #[serde(rename = "cheap")]
    pub approximate: Option<PathBuf>,
}

/// How queries are batched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// The most queries of a batch.
    pub max_size: usize,
    /// How long a query waits for others, in ms.
    pub delay_ms: f64,
    /// The size of batches adapts, so that calls take about this long, in ms; null: it is `max_size`.
    pub target_ms: Option<f64>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { max_size: 1, delay_ms: 0.0, target_ms: None }
    }
}

/// What happens to parameters of requests that the server does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ParametersPolicy {
    /// They are passed on to instances; a batch or coding group holds only requests with equal
    /// parameters.
    #[default]
    PassOn,
    /// A request with such parameters gets 400.
    Refuse,
}

/// The policy against late and lost answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "policy", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Redundancy {
    /// No redundancy. With additional instances it is the baseline of equal resources.
    #[default]
    None,
    /// Each batch goes to several instances; the first answer counts.
    Replicate {
        /// The number of instances that get each batch.
        copies: usize,
    },
    /// A late call is sent a second time.
    Hedge(Hedge),
    /// Each batch also goes to the approximate model.
    #[serde(rename = "cheap")]
    Approximate,
    /// Queries are coded in groups.
    Coded(Box<Coded>),
    /// The server chooses by the load: replicas, coding, second calls for late ones, or nothing.
    Auto(Box<Auto>),
}

impl Redundancy {
    /// The name of the policy in the file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Replicate { .. } => "replicate",
            Self::Hedge(_) => "hedge",
            Self::Approximate => "cheap",
            Self::Coded(_) => "coded",
            Self::Auto(_) => "auto",
        }
    }

    /// How queries are coded; none if the policy does not code.
    #[must_use]
    pub fn coded(&self) -> Option<&Coded> {
        match self {
            Self::Coded(coded) => Some(coded),
            Self::Auto(auto) => auto.coded.as_ref(),
            _ => None,
        }
    }

    /// As [`Redundancy::coded`], to change it.
    pub fn coded_mut(&mut self) -> Option<&mut Coded> {
        match self {
            Self::Coded(coded) => Some(coded),
            Self::Auto(auto) => auto.coded.as_mut(),
            _ => None,
        }
    }
}

/// The policy `auto`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auto {
    /// How queries are coded, with the fields of the policy `coded` but `hedge`; null: they are not.
    pub coded: Option<Coded>,
    /// When a late call is sent a second time.
    pub hedge: Hedge,
    /// The largest share of queries that get a reconstruction although their prediction may still come, in 0..=1.
    pub max_reconstructed: f64,
    /// The most calls for each batch on average, from 1; retries are not counted.
    pub max_calls: f64,
}

impl Default for Auto {
    fn default() -> Self {
        Self { coded: None, hedge: Hedge::default(), max_reconstructed: 0.01, max_calls: 2.0 }
    }
}

/// The policy `coded`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Coded {
    /// The code.
    pub code: CodeChoice,
    /// The inputs that are coded; empty: all.
    pub inputs: Vec<String>,
    /// The outputs that are rebuilt; empty: all.
    pub outputs: Vec<String>,
    /// How long a batch waits for others to fill its group, in ms.
    pub group_delay_ms: f64,
    /// True: a group that does not fill in time is completed with queries whose predictions are known.
    /// False: it is coded with fewer queries.
    pub complete: bool,
    /// When a low live agreement switches coding off; null: never.
    pub agreement: Option<Agreement>,
    /// The version of the deployed model that the code was made for; null: any. Coding is off while
    /// instances answer with another version.
    pub made_for: Option<String>,
    /// When a late call is sent again if coding cannot rebuild its predictions; null: never.
    pub hedge: Option<Hedge>,
    /// For codes that interpolate: a row whose norm is more than this many times the median norm is not
    /// coded; null: every row is coded.
    pub max_scale: Option<f64>,
    /// A file of `parm-score --calibrate`, which turns the confidences of reconstructions into
    /// probabilities of being right; null: confidences are not calibrated.
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

/// Whether each instance runs one model or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Each instance has one role.
    #[default]
    Apart,
    /// Instances without `roles` have all roles but `cheap`, that of the approximate model.
    Pooled,
}

/// What a query gets if there is no answer at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// An error: 504 at the deadline, 503 if all calls failed.
    #[default]
    Error,
    /// Zeros; the response names these rows and the reason.
    Zeros,
}

/// What happens to rows with values that are not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NonFinite {
    /// They are answered, but not coded with others.
    #[default]
    Pass,
    /// A request with such a row gets 400.
    Refuse,
}

/// Instances of one kind: `remote`, `embedded` or `synthetic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Instances {
    /// A model server. Each address of its host name is one instance.
    pub remote: Option<Remote>,
    /// Models inside the server's process.
    pub embedded: Option<Embedded>,
    /// Instances without a model, for experiments.
    pub synthetic: Option<Synthetic>,
    /// Their roles: `deployed`, `parity-0` and so on, `cheap` (the approximate model). Required if the
    /// placement is `apart`; if it is `pooled`, the default is all roles but `cheap`.
    pub roles: Vec<String>,
    /// The number of calls that one instance runs at once.
    pub capacity: usize,
    /// True: calls whose answers are no longer needed are cancelled; null: as the model has it.
    pub cancel_running: Option<bool>,
}

impl Default for Instances {
    fn default() -> Self {
        Self {
            remote: None,
            embedded: None,
            synthetic: None,
            roles: Vec::new(),
            capacity: 1,
            cancel_running: None,
        }
    }
}

/// A model server of the Open Inference Protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Remote {
    /// Its URL: `http://HOST:PORT`, `https://…`, `grpc://…` or `grpcs://…`.
    pub url: String,
    /// How tensors are encoded.
    pub encoding: Encoding,
    /// The Host header; null: the host of the URL.
    pub host: Option<String>,
    /// Additional headers.
    pub headers: BTreeMap<String, String>,
    /// The name in the server's certificate; null: the host of the URL.
    pub server_name: Option<String>,
    /// The authorities to trust, a PEM file; null: the public authorities.
    pub ca: Option<PathBuf>,
    /// The client certificate for the server; null: none.
    pub tls: Option<Identity>,
    /// How often the host name is looked up again, in ms.
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

/// How tensors are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// gRPC if the URL says so; otherwise binary, or JSON if the server does not support binary.
    #[default]
    Auto,
    /// JSON over HTTP.
    Json,
    /// JSON with binary tensors over HTTP.
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
    /// The number of instances.
    pub count: usize,
    /// Their device: `cpu`, `cuda`, `cuda:N` or `auto`.
    pub device: String,
    /// True: instances get the queries of a group, and make the coded query on their device. False:
    /// the server makes it. null: true on a GPU, false on the CPU.
    pub encode: Option<bool>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { count: 1, device: "cpu".to_owned(), encode: None }
    }
}

/// Instances without a model: they answer with sums of their inputs after a simulated time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Synthetic {
    /// The number of instances.
    pub count: usize,
    /// The seed of their random numbers.
    pub seed: u64,
    /// Their times and faults.
    pub behavior: Behavior,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self { count: 1, seed: 0, behavior: Behavior::default() }
    }
}
