//! `parm-serve`: the prediction server. The server is in `parm_serving`; this crate has its signals and its log.
//! Embedded models and learned codes run in `parm-libtorch`, which parm-serve becomes if the configuration has any.

mod journal;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use parm::counted;
use parm_cli::tools::serve::{LogFormat, Serve};
use parm_cli::{Exit, Io, Usage, libtorch, signals};
use parm_config::{Config, ConfigError};
use parm_serving::server::{Order, Running};
use parm_serving::{Embed, NoModels, check};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Reads the configuration; none with `--schema`. Becomes `parm-libtorch` if the configuration needs libtorch.
///
/// # Errors
/// An invalid configuration, or no libtorch where it is needed.
pub fn prepare(options: &Serve) -> Result<Option<Config>> {
    let config = read(options)?;
    if !config.as_ref().is_some_and(check::needs_libtorch) {
        return Ok(config);
    }
    match &options.config {
        Some(file) if !file.is_file() => Err(anyhow!(
            "{}: found a pipe, expected a file: with embedded models or learned codes it is read twice",
            file.display()
        )),
        _ => Err(libtorch::exec::<Serve>(&[])),
    }
}

/// Reads the configuration; none with `--schema`.
///
/// # Errors
/// An invalid configuration.
pub fn read(options: &Serve) -> Result<Option<Config>> {
    if options.schema {
        return Ok(None);
    }
    let file = options.config.as_ref();
    let file = file.ok_or_else(|| Usage::error("expected a configuration: parm-serve CONFIG.json"))?;
    load(options, file).map(Some)
}

/// Runs the tool with its configuration. `embed` makes embedded models; none: a configuration that has some is
/// refused.
///
/// # Errors
/// An invalid configuration, an address that cannot be bound, or requests that were not answered within
/// `drain_ms`.
pub fn run(
    options: &Serve,
    config: Option<Config>,
    embed: Option<Arc<dyn Embed>>,
    io: &mut Io,
) -> Result<Exit> {
    let (Some(file), Some(config)) = (&options.config, config) else {
        let schema = serde_json::to_string_pretty(&parm_config::schema())?;
        io.print(&format!("{schema}\n"))?;
        return Ok(Exit::Done);
    };
    let has_libtorch = embed.is_some();
    let embed = embed.unwrap_or_else(|| Arc::new(NoModels));
    if options.check_config {
        let checked = check::check_files(&config).and_then(|()| check::check_embedded(&config, &*embed));
        checked.map_err(|error| named(file, error))?;
        for open in config.open_to_all() {
            options.common.note(io, &open);
        }
        options.common.count(io, &format!("{}, no error", counted(config.models.len(), "model")));
        return Ok(Exit::Done);
    }
    if options.journal.is_some() && config.models.len() != 1 {
        return Err(Usage::error(format!(
            "--journal: found {} in {}, expected one: lines do not say whose they are",
            counted(config.models.len(), "model"),
            file.display()
        )));
    }
    let journal = options.journal.as_ref().map(|target| journal::Writer::start(target, io)).transpose()?;
    let (journal, entries) = journal.unzip();
    log(options);
    raise_open_files(config.limits.connections);
    let runtime = {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.enable_all().thread_name("parm-serve");
        if let Some(workers) = options.workers {
            builder.worker_threads(workers as usize);
        }
        builder.build().context("the runtime")?
    };
    let (orders, told) = mpsc::channel(1);
    let (to_signals, signalled) = std::sync::mpsc::channel();
    signals::forward(to_signals);
    let in_time = runtime.block_on(async {
        let running = Running::journaled(config, embed, entries).await?;
        let said =
            |address: Option<std::net::SocketAddr>| address.map_or("-".to_owned(), |at| at.to_string());
        let addresses = running.addresses;
        tracing::info!(
            http = said(addresses.http),
            grpc = said(addresses.grpc),
            admin = said(addresses.admin),
            "listening"
        );
        let (options, file) = (options.clone(), file.clone());
        std::thread::Builder::new().name("orders".into()).spawn(move || {
            perform(&signalled, &orders, || {
                let config = load(&options, &file)?;
                ensure!(has_libtorch || !check::needs_libtorch(&config), "{}: {NoModels}", file.display());
                Ok(config)
            });
        })?;
        Ok::<_, anyhow::Error>(running.serve(told).await)
    })?;
    // Does not wait for running calls.
    runtime.shutdown_background();
    journal.map_or(Ok(()), journal::Writer::finish)?;
    if in_time { Ok(Exit::Done) } else { Err(anyhow!("drain_ms passed before all requests were answered")) }
}

/// Reads the configuration, and applies the options to it.
fn load(options: &Serve, file: &Path) -> Result<Config> {
    let mut config = Config::load(file).map_err(|error| named(file, error))?;
    config.http = options.http.or(config.http);
    config.grpc = options.grpc.or(config.grpc);
    config.admin = options.admin.or(config.admin);
    // Options may give two services the same address.
    check::check(&config).map_err(|error| named(file, error))?;
    Ok(config)
}

/// An error of a configuration with the name of its file.
fn named(file: &Path, error: ConfigError) -> anyhow::Error {
    match error {
        // This error names the file already.
        ConfigError::Io { .. } => anyhow!(error),
        error => anyhow!(error).context(file.display().to_string()),
    }
}

/// Translates signals to orders: SIGHUP reloads the configuration, SIGTERM and SIGINT stop; a second one ends
/// the process at once.
fn perform(
    signalled: &std::sync::mpsc::Receiver<i32>,
    orders: &mpsc::Sender<Order>,
    load: impl Fn() -> Result<Config>,
) {
    while let Ok(signal) = signalled.recv() {
        let order = if signal == signals::HANGUP {
            match load() {
                Ok(config) => Order::Reload(Box::new(config)),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "the old configuration stays");
                    continue;
                }
            }
        } else {
            signals::no_longer_forward();
            Order::Stop
        };
        if orders.blocking_send(order).is_err() {
            return;
        }
    }
}

/// The number of descriptors for other uses than clients: files, listeners, and connections to instances.
const OTHER_FILES: u64 = 256;

/// Raises the limit of open files as far as the system allows, and warns if `limits.connections` needs more.
fn raise_open_files(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    let soft = limit.current;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        limit.current = soft;
    }
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    // None: there is no limit.
    if let Some(files) = limit.current.filter(|&files| files < wanted) {
        tracing::warn!(files, wanted, "limits.connections need more open files than the system allows");
    }
}

/// Escapes the messages of others, which may contain line breaks and terminal codes, as `\n` and `\u{1b}`.
fn escaped(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Sets up the log.
fn log(options: &Serve) {
    let level = match (options.common.quiet, options.common.verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, true) => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    };
    let filter = Targets::new().with_target("parm", level).with_default(level.min(LevelFilter::WARN));
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = match options.log_format {
        LogFormat::Json => layer.json().with_filter(filter).boxed(),
        LogFormat::Text => {
            let fields = format::debug_fn(|writer, field, value| {
                let value = escaped(&format!("{value:?}"));
                match field.name() {
                    "message" => write!(writer, "{value}"),
                    name => write!(writer, "{name}={value}"),
                }
            });
            let layer = layer.fmt_fields(fields.delimited(" "));
            layer.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed()
        }
    };
    // A process has one log; a test may have set it up already.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}
