//! Reads a configuration and checks it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use parm::DeviceChoice;
use parm::codes::Code;
use parm::codes::directory::RunsOn;
use parm_engine::{Mask, Role, Roles};
use parm_workload::faults::BehaviorError;
use schemars::Schema;

use crate::{
    CodeChoice, Config, Embedded, Instances, Limits, Management, Model, Placement, Redundancy, Tls, policy,
};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// The text does not follow the schema.
    #[error("{field}: {error}")]
    Schema {
        /// The path of the field, as `models[0].instances[2].remote.url`.
        field: String,
        /// The cause.
        error: serde_json::Error,
    },
    /// An invalid value.
    #[error("{field}: {problem}")]
    Value {
        /// The path of the field.
        field: String,
        /// The value that was found and the expected one.
        problem: String,
    },
}

/// Instances that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InstancesError {
    /// None of the three kinds, or several.
    #[error("expected one of remote, embedded and synthetic")]
    Kind,
    /// No call at once.
    #[error("found capacity 0, expected at least 1")]
    Capacity,
    /// What synthetic ones do.
    #[error(transparent)]
    Behavior(#[from] BehaviorError),
    /// The device of embedded ones.
    #[error("embedded.device: found '{device}', {expected}")]
    Device {
        /// What it is called.
        device: String,
        /// What it may be called.
        expected: &'static str,
    },
    /// No role at all.
    #[error("found no role, expected deployed, cheap or parity-0 and so on")]
    NoRole,
    /// Several roles where the placement is apart.
    #[error("found the roles {0}, expected one where the placement is apart")]
    Roles(String),
    /// A role that there is not.
    #[error("found the role '{0}', expected deployed, cheap or parity-0 and so on")]
    Role(String),
    /// A parity that the code does not have.
    #[error("found the role {role}, the code has {r} parities")]
    Parity {
        /// The role.
        role: String,
        /// Parities of the code.
        r: usize,
    },
    /// A model whose file is not named.
    #[error("found no file for the {0} of an embedded instance, expected files.{0}")]
    File(&'static str),
}

impl ConfigError {
    /// An invalid value of a field.
    #[must_use]
    pub fn value(field: &str, problem: impl fmt::Display) -> Self {
        Self::Value { field: field.to_owned(), problem: problem.to_string() }
    }
}

/// The JSON schema of a configuration.
#[must_use]
pub fn schema() -> Schema {
    schemars::schema_for!(Config)
}

impl Config {
    /// Reads a file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// A file that cannot be read or does not follow the schema, or an invalid value.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        Self::parse(&text)?.relative_to(path.parent().unwrap_or(Path::new(".")))
    }

    /// Resolves relative paths against a folder, and checks the configuration.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn relative_to(mut self, folder: &Path) -> Result<Self, ConfigError> {
        for path in self.paths() {
            *path = folder.join(&*path);
        }
        self.check()?;
        Ok(self)
    }

    /// Reads a text without checking its values.
    ///
    /// # Errors
    /// A text that does not follow the schema.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let config = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = match error.path().to_string() {
                // The error is before the first field.
                path if path == "?" || path == "." => "the configuration".to_owned(),
                path => path,
            };
            ConfigError::Schema { field, error: error.into_inner() }
        })?;
        json.end()
            .map_err(|error| ConfigError::Schema { field: "after the configuration".to_owned(), error })?;
        Ok(config)
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths: Vec<&mut PathBuf> = Vec::new();
        if let Some(tls) = &mut self.tls {
            paths.extend([&mut tls.certificate, &mut tls.key]);
            paths.extend(&mut tls.client_ca);
        }
        paths.extend(self.keys.inference.iter_mut().chain(&mut self.keys.admin));
        for model in &mut self.models {
            paths.extend(model.files.deployed.iter_mut().chain(&mut model.files.approximate));
            paths.extend(&mut model.files.parity);
            if let Some(coded) = model.redundancy.coded_mut() {
                paths.extend(&mut coded.calibration);
                if let CodeChoice::Directory(directory) = &mut coded.code {
                    paths.push(directory);
                }
            }
            for remote in model.instances.iter_mut().filter_map(|instances| instances.remote.as_mut()) {
                paths.extend(&mut remote.ca);
                paths.extend(remote.tls.iter_mut().flat_map(|tls| [&mut tls.certificate, &mut tls.key]));
            }
        }
        paths
    }

    /// Checks all values.
    ///
    /// # Errors
    /// The first invalid value.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.http.is_none() && self.grpc.is_none() {
            return Err(ConfigError::value(
                "http",
                "found no address for HTTP and none for gRPC, expected at least one",
            ));
        }
        if self.models.is_empty() {
            return Err(ConfigError::value("models", "found none, expected at least one"));
        }
        let addresses = [self.http, self.grpc, self.admin].into_iter().flatten();
        let mut fixed: Vec<SocketAddr> = addresses.filter(|address| address.port() != 0).collect();
        fixed.sort_unstable();
        if let Some([twice, _]) = fixed.array_windows().find(|[one, other]| one == other) {
            return Err(ConfigError::value("http, grpc, admin", format!("found the address {twice} twice")));
        }
        milliseconds("drain_ms", self.drain_ms as f64)?;
        self.limits.check()?;
        let mut names = BTreeSet::new();
        for (index, model) in self.models.iter().enumerate() {
            let at = format!("models[{index}]");
            if !names.insert((&model.name, &model.version)) {
                let problem = format!("found version {} of '{}' twice", model.version, model.name);
                return Err(ConfigError::value(&at, problem));
            }
            let defaults = self.models.iter().filter(|other| other.name == model.name && other.default);
            if defaults.count() > 1 {
                return Err(ConfigError::value(
                    &at,
                    format!("found several default versions of '{}'", model.name),
                ));
            }
            model.check(&at)?;
        }
        Ok(())
    }

    /// One line for each operation that needs no key, with its address, to be printed.
    #[must_use]
    pub fn open_to_all(&self) -> Vec<String> {
        let at = |address: Option<SocketAddr>| address.map_or("-".to_owned(), |address| address.to_string());
        let public = format!("HTTP {}, gRPC {}", at(self.http), at(self.grpc));
        let admin = self.admin.map(|admin| format!("{admin}"));
        let who = match &self.tls {
            Some(Tls { client_ca: Some(_), .. }) => "clients with a certificate",
            _ => "everybody",
        };
        let mut open = Vec::new();
        let mut add = |what: &str, at: &str| open.push(format!("open to {who}: {what} ({at})"));
        if self.keys.inference.is_none() {
            add("inference", &public);
        }
        if self.keys.inference.is_none() && self.keys.admin.is_none() {
            add("metrics, the status page and the index of models", admin.as_ref().unwrap_or(&public));
        }
        if self.keys.admin.is_none() {
            if self.management == Management::Open {
                add("loading and unloading models, and resuming coding", &public);
            }
            if let Some(admin) = &admin {
                add("loading and unloading models, and resuming coding", admin);
            }
        }
        open
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        for (name, number) in [
            ("body_bytes", self.body_bytes),
            ("header_bytes", self.header_bytes),
            ("rows", self.rows),
            ("requests", self.requests),
            ("connections", self.connections),
        ] {
            if number == 0 {
                return Err(ConfigError::value(&format!("limits.{name}"), "found 0, expected at least 1"));
            }
        }
        for (name, ms) in
            [("header_ms", self.header_ms), ("body_ms", self.body_ms), ("idle_ms", self.idle_ms)]
        {
            let name = format!("limits.{name}");
            if ms == 0 {
                return Err(ConfigError::value(&name, "found 0, expected at least 1"));
            }
            milliseconds(&name, ms as f64)?;
        }
        if self.bytes < self.body_bytes {
            let problem = format!("found {}, expected at least body_bytes, {}", self.bytes, self.body_bytes);
            return Err(ConfigError::value("limits.bytes", problem));
        }
        Ok(())
    }
}

impl Model {
    /// Checks that the names of tensors are unique and their sizes valid.
    fn check_tensors(&self) -> Result<(), (&'static str, String)> {
        for (field, tensors) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            let mut names = BTreeSet::new();
            for tensor in tensors {
                if tensor.name.is_empty() {
                    return Err((field, "found one without a name".to_owned()));
                }
                if !names.insert(&tensor.name) {
                    return Err((field, format!("found '{}' twice", tensor.name)));
                }
                if let Some(axis) = tensor.shape.iter().find(|&&axis| axis < -1 || axis == 0) {
                    let problem =
                        format!("found size {axis} of '{}', expected at least 1, or -1", tensor.name);
                    return Err((field, problem));
                }
            }
        }
        Ok(())
    }

    fn check(&self, at: &str) -> Result<(), ConfigError> {
        if self.version.is_empty() || self.version.contains('/') {
            let problem = format!("found '{}', expected a version without /", self.version);
            return Err(ConfigError::value(&format!("{at}.version"), problem));
        }
        if self.name.is_empty() || self.name.contains('/') {
            return Err(ConfigError::value(
                &format!("{at}.name"),
                format!("found '{}', expected a name without /", self.name),
            ));
        }
        for (name, ms) in [
            ("deadline_ms", self.deadline_ms),
            ("call_timeout_ms", self.call_timeout_ms),
            ("batch.delay_ms", self.batch.delay_ms),
            ("batch.target_ms", self.batch.target_ms.unwrap_or(1.0)),
        ] {
            milliseconds(&format!("{at}.{name}"), ms)?;
        }
        if let Redundancy::Auto(auto) = &self.redundancy
            && auto.coded.as_ref().is_some_and(|coded| coded.hedge.is_some())
        {
            let problem = "found a hedge of the code, expected redundancy.hedge, which the policy auto uses";
            return Err(ConfigError::value(&format!("{at}.redundancy.coded.hedge"), problem));
        }
        let of_code = match self.redundancy {
            Redundancy::Auto(_) => format!("{at}.redundancy.coded"),
            _ => format!("{at}.redundancy"),
        };
        if let Some(coded) = self.redundancy.coded() {
            milliseconds(&format!("{of_code}.group_delay_ms"), coded.group_delay_ms)?;
            if let Some(scale) = coded.max_scale
                && !(scale.is_finite() && scale >= 1.0)
            {
                let problem = format!("found {scale}, expected a finite number from 1");
                return Err(ConfigError::value(&format!("{of_code}.max_scale"), problem));
            }
            policy::calibration_of(coded)
                .map_err(|problem| ConfigError::value(&format!("{of_code}.calibration"), problem))?;
        }
        let code = policy::code_of(self)
            .map_err(|problem| ConfigError::value(&format!("{of_code}.code"), problem))?;
        self.check_tensors()
            .map_err(|(field, problem)| ConfigError::value(&format!("{at}.{field}"), problem))?;
        if let Err(error) = policy::engine_config(self) {
            return Err(ConfigError::value(at, error));
        }
        if self.instances.is_empty() {
            return Err(ConfigError::value(&format!("{at}.instances"), "found none, expected at least one"));
        }
        let r = code.as_ref().map_or(0, Code::r);
        let mut all = Roles::default();
        for (index, instances) in self.instances.iter().enumerate() {
            let at = format!("{at}.instances[{index}]");
            let roles =
                instances.check(self.placement, r).map_err(|problem| ConfigError::value(&at, problem))?;
            if instances.embedded.is_some() {
                self.files_of(roles, code.as_ref()).map_err(|problem| ConfigError::value(&at, problem))?;
            }
            all = Roles {
                deployed: all.deployed || roles.deployed,
                approximate: all.approximate || roles.approximate,
                parity: all.parity | roles.parity,
            };
        }
        let synthetic = self.synthetic_count();
        if synthetic > 0 {
            let faults = self.faults.check(synthetic);
            faults.map_err(|error| ConfigError::value(&format!("{at}.faults"), error.to_string()))?;
        }
        self.overhead
            .check()
            .map_err(|error| ConfigError::value(&format!("{at}.overhead"), error.to_string()))?;
        if !all.deployed {
            return Err(ConfigError::value(&format!("{at}.instances"), "found none with the role deployed"));
        }
        if self.redundancy == Redundancy::Approximate && !all.approximate {
            return Err(ConfigError::value(
                &format!("{at}.instances"),
                "found none with the role cheap, which the policy needs",
            ));
        }
        if let Some(parity) = (0..r).find(|parity| all.parity >> parity & 1 == 0) {
            let problem = format!("found none with the role parity-{parity}, which the code needs");
            return Err(ConfigError::value(&format!("{at}.instances"), problem));
        }
        Ok(())
    }

    /// The files of the models that an embedded instance with these roles runs.
    ///
    /// # Errors
    /// A role without a file.
    pub fn files_of(
        &self,
        roles: Roles,
        code: Option<&Code>,
    ) -> Result<Vec<(Role, PathBuf)>, InstancesError> {
        let of_code = code.map(Code::parity_models).unwrap_or_default();
        let joint = code.and_then(Code::joint_model);
        let deployed = self.files.deployed.as_ref().or(joint.as_ref());
        let parity = |index: usize| {
            let of_code = of_code.get(index);
            let deployed = deployed.filter(|_| code.is_some_and(|code| code.runs_on() == RunsOn::Deployed));
            self.files.parity.get(index).or(of_code).or(deployed)
        };
        let mut wanted = Vec::new();
        wanted.extend(roles.deployed.then_some((Role::Deployed, deployed, "deployed")));
        wanted.extend(roles.approximate.then_some((
            Role::Approximate,
            self.files.approximate.as_ref(),
            "cheap",
        )));
        let parities = (0..Mask::BITS as usize).filter(|index| roles.parity >> index & 1 == 1);
        wanted.extend(parities.map(|index| (Role::Parity(index), parity(index), "parity")));
        let named = |(role, file, what): (Role, Option<&PathBuf>, &'static str)| match file {
            Some(file) => Ok((role, file.clone())),
            None => Err(InstancesError::File(what)),
        };
        wanted.into_iter().map(named).collect()
    }
}

impl Instances {
    /// Checks an entry, and returns its roles. The code has `r` parity models.
    ///
    /// # Errors
    /// Instances of no kind or of several, or roles that they cannot have.
    pub fn check(&self, placement: Placement, r: usize) -> Result<Roles, InstancesError> {
        let kinds = [self.remote.is_some(), self.embedded.is_some(), self.synthetic.is_some()];
        if kinds.into_iter().filter(|&is| is).count() != 1 {
            return Err(InstancesError::Kind);
        }
        if self.capacity == 0 {
            return Err(InstancesError::Capacity);
        }
        if let Some(synthetic) = &self.synthetic {
            synthetic.behavior.check()?;
        }
        if let Some(Embedded { device, .. }) = &self.embedded {
            let wrong = |expected| InstancesError::Device { device: device.clone(), expected };
            device.parse::<DeviceChoice>().map_err(wrong)?;
        }
        let roles = self.roles(placement, r)?;
        let several =
            usize::from(roles.deployed) + usize::from(roles.approximate) + roles.parity.count_ones() as usize;
        match (placement, several) {
            (_, 0) => Err(InstancesError::NoRole),
            (Placement::Apart, 2..) => Err(InstancesError::Roles(self.roles.join(", "))),
            _ => Ok(roles),
        }
    }

    fn roles(&self, placement: Placement, r: usize) -> Result<Roles, InstancesError> {
        if self.roles.is_empty() && placement == Placement::Pooled {
            return Ok(Roles::pooled(r));
        }
        let mut roles = Roles::default();
        for role in &self.roles {
            match role.as_str() {
                "deployed" => roles.deployed = true,
                "cheap" => roles.approximate = true,
                _ => match role.strip_prefix("parity-").and_then(|index| index.parse::<usize>().ok()) {
                    Some(parity) if parity < r => roles.parity |= 1 << parity,
                    Some(_) => return Err(InstancesError::Parity { role: role.clone(), r }),
                    None => return Err(InstancesError::Role(role.clone())),
                },
            }
        }
        Ok(roles)
    }
}

/// The longest time: a day.
const LONGEST_MS: f64 = 86_400_000.0;

fn milliseconds(field: &str, ms: f64) -> Result<(), ConfigError> {
    if (0.0..=LONGEST_MS).contains(&ms) {
        return Ok(());
    }
    Err(ConfigError::value(field, format!("found {ms}, expected a time in ms from 0 to {LONGEST_MS}, a day")))
}
