//! Calls to instances: executes the engine's actions, and reports how calls end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use parm_engine::{Action, Call, CallId, GroupId, InstanceId, Task, Time};

use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::checks::is_finite;
use super::classes::Class;
use super::coding::{Members, RowEncoder};
use super::driver::{Driver, Input, Running};
use super::rows::CodingError;
use super::spec::Spec;
use super::stats::State;
use super::{Answered, Encoding, Event, Values};
use parm_oip::instance::{CallContext, CallError, Headers};
use parm_oip::{InferRequest, InferResponse, Tensor};

/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(1);

/// The number of consecutive answers of the right version that switch coding on again.
const SAME_VERSION: u32 = 100;

/// What a call sends.
enum Work {
    Ready,
    Encode {
        encoder: Arc<RowEncoder>,
        /// The parity queries of the group if the encoder is learned.
        encoded: Arc<OnceCell<Vec<Vec<Tensor>>>>,
        /// The index of the coded query.
        coded: usize,
        rows: Vec<Members>,
        /// The members' class, with the indices of the coded inputs among the model's.
        class: Option<(Arc<Class>, Vec<usize>)>,
        /// The name of the parity model's only input, if it differs from the deployed model's.
        input: Option<String>,
    },
}

impl Driver {
    /// Executes the engine's actions.
    pub(super) fn perform(&mut self) {
        while let Some(action) = self.engine.next_action() {
            let now = self.now();
            self.note(|journal, engine| journal.action(now, engine, &action));
            match action {
                Action::Dispatch { call, instance } => self.dispatch(now, call, instance),
                Action::Cancel { call, .. } => self.cancel_call(now, call),
                Action::Rebuild { query, row, decode } => self.rebuild_row(now, query, row, decode),
                Action::Answer { row, outcome, .. } => self.answer(now, row, outcome),
                Action::Compare { row, decode, .. } => self.compare(now, row, decode),
                Action::Release { row } => drop(self.rows.try_remove(row as usize)),
                Action::Drop { group } => drop(self.groups.remove(&group)),
                Action::Probe { instance } => self.probe(instance),
                Action::Ejected { instance } => self.set_state(instance, State::Ejected),
                Action::Healed { instance } => self.set_state(instance, State::In),
                Action::State { state, load } => {
                    tracing::info!(
                        model = self.options.label,
                        state = state.name(),
                        load,
                        "the policy changes"
                    );
                }
                Action::CodingOff { reason } => {
                    tracing::warn!(model = self.options.label, ?reason, "coding is off");
                }
            }
        }
    }

    fn set_state(&mut self, instance: InstanceId, state: State) {
        let Some(held) = self.instances.get_mut(&instance) else { return };
        held.view.state = state;
        let (model, instance) = (&self.options.label, &held.view.name);
        if state == State::Ejected {
            held.view.ejections += 1;
            let why = held.view.last_failure.as_deref().unwrap_or("slow");
            tracing::warn!(model, instance, why, "an instance is ejected");
        } else {
            tracing::info!(model, instance, "an ejected instance gets work again");
        }
    }

    fn dispatch(&mut self, now: Time, call: CallId, instance: InstanceId) {
        // The same event may have ended it.
        let Some(of) = self.engine.call(call) else { return };
        let since = Instant::now();
        if let Task::Parity { .. } | Task::Coded { .. } = of.task {
            self.stats.parity_queued.record(Duration::from_nanos(of.waited));
        }
        let mut request = InferRequest {
            model: self.options.names.of_role(of.task.role()).to_owned(),
            version: self.options.version.clone(),
            ..InferRequest::default()
        };
        let mut context = CallContext { timeout: Some(self.call_timeout), ..CallContext::default() };
        let work = match of.task {
            Task::Deployed | Task::Copy | Task::Approximate => {
                let rows: Vec<u64> = self.engine.rows(call).collect();
                context.headers = self.sent_rows(now, &rows);
                self.batch(&rows, &mut request);
                Some(Work::Ready)
            }
            Task::Parity { group, parity } => {
                let input = self.instances.get(&instance).and_then(|held| held.member.parity_input.clone());
                self.encode(now, group, parity, of.rows, input)
            }
            Task::Coded { group, worker } => self.encode(now, group, worker, of.rows, None),
        };
        match work {
            Some(work) => self.send(call, Running { instance, since, abort: None }, work, request, context),
            None => self.engine.failed(now, call),
        }
    }

    /// Records that rows are sent; returns the headers of the first one's request.
    fn sent_rows(&mut self, now: Time, rows: &[u64]) -> Headers {
        for row in rows {
            if let Some(held) = self.rows.get_mut(*row as usize)
                && !std::mem::replace(&mut held.sent, true)
            {
                self.stats.queued.record(Duration::from_nanos(now.saturating_sub(held.arrived)));
            }
        }
        let first = rows.first().and_then(|row| self.rows.get(*row as usize));
        let open = first.and_then(|held| self.requests.get(&held.request));
        open.map_or_else(|| Arc::from([]), |open| Arc::clone(&open.headers))
    }

    /// Puts rows into a request, as chunks without copying.
    fn batch(&self, rows: &[u64], request: &mut InferRequest) {
        let held = || rows.iter().filter_map(|row| self.rows.get(*row as usize));
        match (&self.options.spec, held().next().map(|row| &row.input)) {
            (None, Some(Input::Whole(whole))) => {
                request.inputs.clone_from(&whole.inputs);
                request.outputs.clone_from(&whole.outputs);
                request.parameters.clone_from(&whole.parameters);
            }
            (Some(spec), _) => {
                let class = held().next().and_then(|row| row.class.as_deref());
                let parameters = |index| class.map(|class| class.parameters.of_input(index));
                if let Some(class) = class {
                    request.parameters.clone_from(&class.parameters.request);
                }
                let tensor = |(index, input): (usize, &super::RowTensor)| Tensor {
                    name: input.name.clone(),
                    datatype: input.datatype,
                    shape: input.shape_of(rows.len()),
                    parameters: parameters(index).unwrap_or_default(),
                    data: held().filter_map(|row| row.input.slice(index)).collect(),
                };
                request.inputs = spec.inputs.iter().enumerate().map(tensor).collect();
            }
            (None, _) => {}
        }
    }

    /// Collects the queries of a coded batch, and records the members of its group.
    fn encode(
        &mut self,
        now: Time,
        group: GroupId,
        coded: usize,
        rows: usize,
        input: Option<String>,
    ) -> Option<Work> {
        let coding = self.options.coding.as_ref()?;
        let members: Vec<Vec<(usize, u64)>> =
            (0..rows).map(|row| self.engine.members(group, row).collect()).collect();
        let slices = |row: u64| -> Vec<Bytes> {
            let inputs = coding.inputs.0.iter();
            let held = self.rows.get(row as usize);
            inputs.filter_map(|&index| held.and_then(|held| held.input.slice(index))).collect()
        };
        let of_row = |row: &Vec<(usize, u64)>| row.iter().map(|&(slot, row)| (slot, slices(row))).collect();
        let queries: Vec<Members> = members.iter().map(of_row).collect();
        let first_row = members.iter().flatten().next().and_then(|(_, row)| self.rows.get(*row as usize));
        let class = first_row.and_then(|row| row.class.clone());
        let class = class.map(|class| (class, coding.inputs.0.clone()));
        let arrived = members.iter().flatten().filter_map(|(_, row)| self.rows.get(*row as usize));
        let first = arrived.filter(|row| row.prediction.is_none()).map(|row| row.arrived).min();
        let held = self.groups.entry(group).or_default();
        if held.members.is_empty() {
            held.members = members;
            if let Some(first) = first {
                self.stats.group_wait.record(Duration::from_nanos(now.saturating_sub(first)));
            }
        }
        let encoded = Arc::clone(&held.encoded);
        Some(Work::Encode {
            encoder: Arc::clone(&coding.encoder),
            encoded,
            coded,
            rows: queries,
            class,
            input,
        })
    }

    fn send(
        &mut self,
        call: CallId,
        mut running: Running,
        work: Work,
        mut request: InferRequest,
        mut context: CallContext,
    ) {
        let Some(held) = self.instances.get_mut(&running.instance) else { return };
        held.view.running += 1;
        let began = running.since;
        let rebuilt = Arc::clone(&self.rebuilt);
        let (instance, events) = (Arc::clone(&held.member.instance), self.events.clone());
        let task = tokio::spawn(async move {
            let since = Instant::now();
            let encoded = match work {
                Work::Ready => Ok(()),
                Work::Encode { encoder, encoded, coded, rows, class, input } => {
                    let made = if instance.encodes() {
                        context.coded = Some(coded);
                        Ok(encoder.groups(&rows))
                    } else if encoder.is_learned() {
                        learned(encoder, &encoded, coded, rows).await
                    } else {
                        encoder.encode(coded, &rows)
                    };
                    made.map(|tensors| request.inputs = tensors).map(|()| {
                        if let Some((class, inputs)) = class {
                            request.parameters.clone_from(&class.parameters.request);
                            for (tensor, index) in request.inputs.iter_mut().zip(inputs) {
                                tensor.parameters = class.parameters.of_input(index);
                            }
                        }
                        if let (Some(name), [tensor]) = (input, &mut request.inputs[..]) {
                            tensor.name = name;
                        }
                    })
                }
            };
            let encoding = Encoding { full: began.elapsed(), sum: since.elapsed() };
            let result = match encoded {
                Ok(()) => {
                    let answer = AssertUnwindSafe(async { instance.infer(request, context).await });
                    let answer = answer.catch_unwind().await.unwrap_or_else(|cause| {
                        Err(CallError::Garbled(format!("the call panicked: {}", super::text_of(&*cause))))
                    });
                    answer.map(|response| {
                        let finite = are_finite(&response, &rebuilt);
                        Answered { response, finite }
                    })
                }
                Err(text) => Err(CallError::Garbled(format!("encoding: {text}"))),
            };
            if let Some(events) = events.upgrade() {
                // The runtime may have ended.
                let _ = events.send(Event::Ended { call, result, encoding });
            }
        });
        running.abort = Some(task.abort_handle());
        self.calls.insert(call, running);
    }

    fn cancel_call(&mut self, now: Time, call: CallId) {
        if let Some(running) = self.calls.remove(&call) {
            running.abort.iter().for_each(AbortHandle::abort);
            if self.engine.call(call).is_none() {
                // It timed out.
                self.call_over(&running, Some(Err(&CallError::Timeout(self.call_timeout))));
            } else {
                self.call_over(&running, None);
                self.note(|journal, _| {
                    journal.cancelled(call);
                    None
                });
                self.engine.cancelled(now, call);
            }
        }
    }

    /// Records the end of a call on its instance; none: it was cancelled.
    fn call_over(&mut self, running: &Running, result: Option<Result<(), &CallError>>) {
        let Some(held) = self.instances.get_mut(&running.instance) else { return };
        held.view.running -= 1;
        match result {
            None => {}
            Some(Ok(())) => {
                held.view.answered += 1;
                held.view.times.record(running.since.elapsed());
            }
            Some(Err(error)) => {
                if matches!(error, CallError::Unreachable(_) | CallError::Timeout(_)) {
                    held.member.suspected.notify_one();
                }
                let refused = matches!(error, CallError::Refused(_));
                *(if refused { &mut held.view.refused } else { &mut held.view.failed }) += 1;
                held.view.last_failure = Some(error.to_string());
            }
        }
        if held.view.state == State::Leaving {
            self.forget_idle();
        }
    }

    /// Handles the end of a call.
    pub(super) fn ended(
        &mut self,
        now: Time,
        call: CallId,
        result: Result<Answered, CallError>,
        encoding: Encoding,
    ) {
        // It was cancelled.
        let Some(running) = self.calls.remove(&call) else { return };
        let Some(of) = self.engine.call(call) else {
            self.call_over(&running, Some(result.as_ref().map(drop)));
            return;
        };
        if let Task::Parity { .. } | Task::Coded { .. } = of.task {
            self.stats.encode.record(encoding.full);
            self.stats.encode_sum.record(encoding.sum);
            self.stats.parity_calls.record(running.since.elapsed().saturating_sub(encoding.full));
        } else if !matches!(result, Err(CallError::Refused(_))) {
            self.stats.calls.record(running.since.elapsed());
        }
        let finite = result.as_ref().is_ok_and(|answered| answered.finite);
        let kept = result.and_then(|answered| {
            let kept = self.keep(now, call, of, answered);
            kept.map_err(|error| CallError::Garbled(error.to_string()))
        });
        self.call_over(&running, Some(kept.as_ref().copied()));
        let answered = kept.is_ok();
        self.note(
            |journal, _| {
                if answered { journal.answered(now, call) } else { journal.failed(now, call) }
            },
        );
        let rows: Vec<u64> = self.engine.rows(call).collect();
        match kept {
            Ok(()) if finite => self.engine.answered(now, call),
            Ok(()) => self.engine.answered_unfit(now, call),
            Err(error) => {
                let refused = matches!(error, CallError::Refused(_));
                tracing::debug!(model = self.options.label, %error, refused, "a call failed");
                for row in rows {
                    if let Some(held) = self.rows.get_mut(row as usize) {
                        held.failure = Some(error.to_client());
                    }
                }
                if refused {
                    self.engine.refused(now, call);
                } else {
                    self.engine.failed(now, call);
                }
            }
        }
    }

    /// Keeps the outputs of a call: predictions with their rows, coded outputs with their group.
    fn keep(&mut self, now: Time, call: CallId, of: Call, answered: Answered) -> Result<(), CodingError> {
        let Answered { response, finite } = answered;
        match of.task {
            // Coded outputs that are not finite are not used.
            Task::Parity { .. } | Task::Coded { .. } if !finite => Ok(()),
            Task::Parity { group, parity } => {
                let k = self.options.coding.as_ref().map_or(0, |coding| coding.k);
                self.keep_coded(group, k + parity, of.rows, &response)
            }
            Task::Coded { group, worker } => self.keep_coded(group, worker, of.rows, &response),
            Task::Deployed | Task::Copy | Task::Approximate => {
                if of.task != Task::Approximate {
                    self.see_version(now, &response.version);
                }
                let rows: Vec<u64> = self.engine.rows(call).collect();
                let values = match &self.options.spec {
                    Some(spec) => spec.split(&response, rows.len())?,
                    None => vec![Values::Whole(response.outputs)],
                };
                if of.task == Task::Approximate {
                    for (row, values) in rows.iter().zip(values) {
                        if let Some(held) = self.rows.get_mut(*row as usize) {
                            held.approximate = Some(values);
                        }
                    }
                } else {
                    for (row, values) in rows.iter().zip(values) {
                        if let Some(held) = self.rows.get_mut(*row as usize) {
                            held.prediction.get_or_insert(values);
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// Tells the engine whether instances answer with the version that the code was made for: version 0 is
    /// that one, reported after [`SAME_VERSION`] consecutive answers, and 1 any other.
    fn see_version(&mut self, now: Time, version: &str) {
        let Some(made_for) = self.options.coding.as_ref().and_then(|coding| coding.made_for.as_deref())
        else {
            return;
        };
        if version == made_for {
            self.of_version = self.of_version.saturating_add(1);
            if self.of_version >= SAME_VERSION {
                self.engine.version(now, 0);
            }
        } else {
            self.of_version = 0;
            self.engine.version(now, 1);
        }
    }

    fn keep_coded(
        &mut self,
        group: GroupId,
        worker: usize,
        rows: usize,
        response: &InferResponse,
    ) -> Result<(), CodingError> {
        let outputs = self.options.spec.as_ref().map_or(0, |spec| spec.outputs.len());
        let coding = self.options.coding.as_ref().ok_or(CodingError::NoCode)?;
        let kept = coding.decoder.accept(&response.outputs, rows, outputs)?;
        self.groups.entry(group).or_default().outputs.insert(worker, kept);
        Ok(())
    }

    fn probe(&mut self, id: InstanceId) {
        let Some(held) = self.instances.get(&id) else { return };
        let name = if held.member.roles.deployed {
            &self.options.names.deployed
        } else if held.member.roles.approximate {
            &self.options.names.approximate
        } else {
            let parity = held.member.roles.parity.trailing_zeros() as usize;
            self.options.names.parity.get(parity).unwrap_or(&self.options.names.deployed)
        };
        let ready = held.member.instance.ready(name, &self.options.version);
        let events = self.events.clone();
        tokio::spawn(async move {
            let works = tokio::time::timeout(PROBE, ready).await.is_ok_and(|ready| ready.is_ok());
            if let Some(events) = events.upgrade() {
                // The runtime may have ended.
                let _ = events.send(Event::Probed { instance: id, works });
            }
        });
    }
}

/// One parity query of a learned encoder, which runs once for all parities of a group, on a blocking thread.
async fn learned(
    encoder: Arc<RowEncoder>,
    made: &OnceCell<Vec<Vec<Tensor>>>,
    parity: usize,
    rows: Vec<Members>,
) -> Result<Vec<Tensor>, CodingError> {
    let run = || async {
        let run = tokio::task::spawn_blocking(move || encoder.encode_all(&rows)).await;
        run.unwrap_or_else(|error| Err(CodingError::Panicked { part: "encoder", cause: error.to_string() }))
    };
    let parities = made.get_or_try_init(run).await?;
    let fewer = || {
        parm::codes::NetworkError(
            "the learned encoder returned fewer parity queries than its code has".to_owned(),
        )
    };
    Ok(parities.get(parity).cloned().ok_or_else(fewer)?)
}

/// True if the outputs that are used to rebuild others are finite.
fn are_finite(response: &InferResponse, rebuilt: &[String]) -> bool {
    // A parity model may have another name for its only output.
    let counts = |output: &&Tensor| response.outputs.len() == 1 || rebuilt.contains(&output.name);
    let mut outputs = response.outputs.iter().filter(counts);
    rebuilt.is_empty() || outputs.all(|output| is_finite(output.datatype, &output.data.contiguous()))
}

impl Input {
    fn slice(&self, index: usize) -> Option<Bytes> {
        match self {
            Self::Row(inputs) => inputs.get(index).cloned(),
            Self::Whole(_) => None,
        }
    }
}

impl Spec {
    /// The rows of an answer, as slices of its outputs.
    fn split(&self, response: &InferResponse, rows: usize) -> Result<Vec<Values>, CodingError> {
        let mut split = vec![Vec::with_capacity(self.outputs.len()); rows];
        for spec in &self.outputs {
            let tensor = response.outputs.iter().find(|tensor| tensor.name == spec.name);
            let tensor = tensor.ok_or_else(|| CodingError::NoOutput(spec.name.clone()))?;
            let expected = spec.shape_of(rows);
            if tensor.datatype != spec.datatype
                || tensor.shape != expected
                || tensor.data.len() != rows * spec.bytes
            {
                return Err(CodingError::Output {
                    name: spec.name.clone(),
                    datatype: tensor.datatype,
                    shape: tensor.shape.clone(),
                    bytes: tensor.data.len(),
                    expected_datatype: spec.datatype,
                    expected,
                });
            }
            let data = tensor.data.contiguous();
            for (row, split) in split.iter_mut().enumerate() {
                split.push(data.slice(row * spec.bytes..(row + 1) * spec.bytes));
            }
        }
        Ok(split.into_iter().map(Values::Row).collect())
    }
}
