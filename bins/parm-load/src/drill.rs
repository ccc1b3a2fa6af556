//! Commits the faults of a drill at their times.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parm_cli::Usage;
use parm_cli::tools::load::Load;
use parm_workload::{Action, Drill, Fault, Span, Time};
use rustix::process::{Pid, Signal, kill_process};

/// The longest sleep before it checks whether the measurement has ended.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// Reads the drill of the options, if there is one, for measurements of this span at these rates.
///
/// # Errors
/// A file that is no drill; several measurements; a fault after the end.
pub(crate) fn read(options: &Load, span: Span, rates: &[f64]) -> Result<Option<Drill>> {
    let Some(path) = &options.drill else { return Ok(None) };
    let (targets, trials) = (options.targets.len(), options.trials.unwrap_or(1));
    if (targets, rates.len(), trials) != (1, 1, 1) {
        return Err(Usage::error(format!(
            "--drill: found {targets} targets, {} rates and {trials} trials, expected one of each",
            rates.len()
        )));
    }
    let drill = load(path).with_context(|| path.display().to_string())?;
    let seconds = match span {
        Span::Time(time) => time.as_secs_f64(),
        Span::Requests(requests) => requests as f64 / rates.first().copied().unwrap_or(1.0),
    };
    if let Some(late) = drill.0.iter().position(|fault| fault.at_s >= seconds) {
        let at = drill.0.get(late).map_or(0.0, |fault| fault.at_s);
        bail!(
            "{}: faults[{late}]: found at_s {at}, expected less than the {seconds} s of the load",
            path.display()
        );
    }
    Ok(Some(drill))
}

fn load(path: &Path) -> Result<Drill> {
    Ok(std::fs::read_to_string(path).context("cannot read")?.parse()?)
}

/// Commits all faults that are due before `is_over` becomes true. Returns the times at which it did, in ns after the
/// warm-up, which ends `warm_up` after `begin`.
///
/// # Errors
/// A process that does not exist, or a command that cannot be started or fails; sets `failed`.
pub(crate) fn commit(
    drill: &Drill,
    begin: Instant,
    warm_up: Duration,
    is_over: &AtomicBool,
    failed: &AtomicBool,
) -> Result<Vec<Time>> {
    let mut times = Vec::new();
    let mut hooks: Vec<(&Fault, Child)> = Vec::new();
    let mut all = || -> Result<()> {
        for fault in &drill.0 {
            let due = begin + warm_up + Duration::from_secs_f64(fault.at_s);
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                thread::sleep(left.min(LONGEST_SLEEP));
            }
            let time = begin.elapsed().saturating_sub(warm_up);
            times.push(u64::try_from(time.as_nanos()).unwrap_or(Time::MAX));
            let hook =
                act(&fault.action).with_context(|| format!("drill: {} at {} s", fault.name, fault.at_s))?;
            hooks.extend(hook.map(|hook| (fault, hook)));
        }
        while !is_over.load(Ordering::Relaxed) {
            thread::sleep(LONGEST_SLEEP);
        }
        Ok(())
    };
    let ended = all().and_then(|()| {
        // A command that is still running may be a server that it started.
        hooks.iter_mut().try_for_each(|(fault, hook)| match hook.try_wait() {
            Ok(Some(status)) if !status.success() => {
                bail!("drill: {} at {} s: {status}", fault.name, fault.at_s)
            }
            _ => Ok(()),
        })
    });
    failed.store(ended.is_err(), Ordering::Relaxed);
    ended.map(|()| times)
}

/// Does one thing. Returns the process of a command.
fn act(action: &Action) -> Result<Option<Child>> {
    let send = |&pid: &u32, signal| -> Result<Option<Child>> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("found no process number")?;
        kill_process(pid, signal)?;
        Ok(None)
    };
    match action {
        Action::Kill(pid) => send(pid, Signal::KILL),
        Action::Stop(pid) => send(pid, Signal::STOP),
        Action::Continue(pid) => send(pid, Signal::CONT),
        Action::Run(command) => {
            let (program, arguments) = command.split_first().context("found no program")?;
            let mut command = Command::new(program);
            Ok(Some(command.args(arguments).stdin(Stdio::null()).spawn()?))
        }
    }
}
