//! The journal as trace events, which Perfetto and Chrome's trace viewer show.

use std::collections::HashMap;
use std::io::{self, BufWriter, IntoInnerError, Write};

use anyhow::Result;
use parm_cli::Io;
use parm_cli::output::{Compression, Output, Target};
use parm_engine::Time;
use parm_engine::journal::{Entry, Event, Work};
use serde_json::{Value, json};

/// The processes of the viewer: instances, whose threads are the calls that each runs at a time, and queries.
const INSTANCES: u64 = 1;
const QUERIES: u64 = 2;

/// The threads that an instance may have.
const LANES: u64 = 1 << 20;

/// A call that runs.
struct Call {
    begin: Time,
    instance: u64,
    lane: u64,
    work: Work,
}

/// A file of trace events in JSON.
pub(crate) struct TraceEvents {
    file: BufWriter<Output>,
    is_empty: bool,
    calls: HashMap<u64, Call>,
    /// For each instance the lanes, and whether a call is in them.
    lanes: HashMap<u64, Vec<bool>>,
}

impl TraceEvents {
    /// Creates the file.
    pub(crate) fn new(target: &Target, io: &mut Io) -> Result<Self> {
        let mut file = BufWriter::new(target.create(io, Compression::ByName(3))?);
        write!(file, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        let mut events = Self { file, is_empty: true, calls: HashMap::new(), lanes: HashMap::new() };
        for (process, name) in [(INSTANCES, "instances"), (QUERIES, "queries")] {
            let args = json!({"name": name});
            events
                .write(&json!({"name": "process_name", "ph": "M", "pid": process, "tid": 0, "args": args}))?;
        }
        Ok(events)
    }

    /// Writes what this entry of the journal begins or ends.
    pub(crate) fn add(&mut self, entry: &Entry) -> io::Result<()> {
        let now = entry.t_ns;
        match &entry.event {
            Event::Dispatch { call, instance, work } => {
                let lane = self.lane(*instance)?;
                let running = Call { begin: now, instance: *instance, lane, work: work.clone() };
                self.calls.insert(*call, running);
                Ok(())
            }
            Event::Answered { call } => self.end(*call, now, "answered"),
            Event::Failed { call } => self.end(*call, now, "failed"),
            Event::Cancelled { call } => self.end(*call, now, "cancelled"),
            Event::Arrive { query } => self.query("b", *query, now, &json!({})),
            Event::Answer { query, given } => self.query("e", *query, now, &json!(given)),
            Event::State { state, load } => {
                let args = json!({"state": state, "load": load});
                let at = us(now);
                self.write(&json!({"name": "auto", "ph": "i", "s": "g", "pid": QUERIES, "tid": 0, "ts": at, "args": args}))
            }
        }
    }

    /// Gives the file its name.
    pub(crate) fn commit(mut self) -> Result<()> {
        writeln!(self.file, "\n]}}")?;
        self.file.into_inner().map_err(IntoInnerError::into_error)?.commit()
    }

    /// The first lane of an instance that is free, which has a call from now on.
    fn lane(&mut self, instance: u64) -> io::Result<u64> {
        let lanes = self.lanes.entry(instance).or_default();
        let (lane, is_new) = match lanes.iter().position(|is_taken| !is_taken) {
            Some(lane) => (lane, false),
            None => (lanes.len(), true),
        };
        if is_new {
            lanes.push(true);
            let args = json!({"name": format!("instance {instance}")});
            let thread = thread(instance, lane as u64);
            self.write(
                &json!({"name": "thread_name", "ph": "M", "pid": INSTANCES, "tid": thread, "args": args}),
            )?;
        } else if let Some(is_taken) = lanes.get_mut(lane) {
            *is_taken = true;
        }
        Ok(lane as u64)
    }

    fn end(&mut self, call: u64, now: Time, outcome: &str) -> io::Result<()> {
        let Some(Call { begin, instance, lane, work }) = self.calls.remove(&call) else { return Ok(()) };
        let place = usize::try_from(lane).unwrap_or(usize::MAX);
        if let Some(is_taken) = self.lanes.get_mut(&instance).and_then(|lanes| lanes.get_mut(place)) {
            *is_taken = false;
        }
        let args = json!(work);
        let name = args.get("task").cloned();
        self.write(&json!({
            "name": name, "cat": outcome, "ph": "X", "pid": INSTANCES, "tid": thread(instance, lane),
            "ts": us(begin), "dur": us(now - begin), "args": args,
        }))
    }

    fn query(&mut self, phase: &str, query: u64, now: Time, args: &Value) -> io::Result<()> {
        self.write(&json!({
            "name": "query", "cat": "query", "ph": phase, "id": query, "pid": QUERIES, "tid": 0, "ts": us(now),
            "args": args,
        }))
    }

    fn write(&mut self, event: &Value) -> io::Result<()> {
        let separator: &[u8] = if std::mem::take(&mut self.is_empty) { b"\n" } else { b",\n" };
        self.file.write_all(separator)?;
        serde_json::to_writer(&mut self.file, event)?;
        Ok(())
    }
}

/// The thread of the viewer for a call of an instance.
fn thread(instance: u64, lane: u64) -> u64 {
    instance.saturating_mul(LANES).saturating_add(lane)
}

/// The unit of trace events.
fn us(ns: Time) -> f64 {
    ns as f64 / 1000.0
}
