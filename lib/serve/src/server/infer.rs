//! Inference: checks a request, passes it to the runtime, and makes the response.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parm::dtype::Float;
use parm_engine::{Reason, RedundancyLevel};

use super::budget::Reservation;
use crate::models::{Loaded, SequenceStep, Served};
use crate::runtime::membership::Joined;
use crate::runtime::{Ask, How, PassedParameters, Payload, RowAnswer, RowTensor, Spec, Uncoded, Values};
use parm_config::Limits;
use parm_config::ParametersPolicy;
use parm_oip::instance::{CallContext, CallError, Headers, within};
use parm_oip::{
    Datatype, Error, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput, Status, Tensor,
};

/// The parameter of a requested output that asks for its largest elements.
const CLASSIFICATION: &str = "classification";

/// The most bytes of a class, `value:index`, with its length prefix. Floats have up to 39 digits before the
/// point, doubles up to 309.
const fn class_bytes(datatype: Datatype) -> usize {
    if matches!(datatype, Datatype::Fp64) { 340 } else { 70 }
}

/// The priority of requests without one, or with 0.
const PRIORITY: u8 = 100;

/// The parameter that says how much redundancy a request gets, also as metadata of gRPC.
pub(super) const REDUNDANCY: &str = "parm_redundancy";

/// The parameters that this server handles itself. `sequence_start` and `sequence_end` need a `sequence_id`.
/// Streams always behave as `triton_enable_empty_final_response` asks.
const OWN: [&str; 8] = [
    "timeout",
    "priority",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "parm_allow_reconstructed",
    REDUNDANCY,
    "triton_enable_empty_final_response",
];

/// The values of the parameters that this server handles itself.
struct Wishes {
    deadline: Option<Duration>,
    priority: u8,
    allow_reconstructed: bool,
    redundancy: RedundancyLevel,
    sequence: Option<SequenceStep>,
}

impl Served {
    /// Answers a request.
    ///
    /// # Errors
    /// The error for the client.
    pub(super) async fn infer(
        &self,
        request: InferRequest,
        call: CallContext,
        limits: &Limits,
        held: &Reservation,
    ) -> Result<InferResponse, Error> {
        let loaded = self.loaded().inspect_err(|_| {
            self.counts.not_ready.fetch_add(1, Ordering::Relaxed);
        })?;
        let invalid = |_: &Error| {
            self.counts.invalid.fetch_add(1, Ordering::Relaxed);
        };
        let wishes = Wishes::of(&request.parameters).inspect_err(invalid)?;
        check_outputs(&request.outputs).inspect_err(invalid)?;
        self.check_parameters(&request).inspect_err(invalid)?;
        let CallContext { timeout, headers, .. } = call;
        let deadline = wishes.deadline.into_iter().chain(timeout).min();
        let mut response = InferResponse {
            model: self.config.name.clone(),
            version: self.config.version.clone(),
            id: request.id.clone(),
            ..InferResponse::default()
        };
        if let Some(sequence) = wishes.sequence {
            self.counts.passed_on(Uncoded::Sequence);
            let longest = Duration::from_secs_f64(self.config.deadline_ms / 1e3);
            let wait = deadline.map_or(longest, |wait| wait.min(longest));
            response.outputs =
                loaded.in_sequence(sequence, request, &self.config.names.version, wait, headers).await?;
            held.reserve(response.outputs.iter().map(|output| output.data.len()).sum())?;
            return Ok(response);
        }
        let wanted: Vec<usize>;
        let mut parameters = PassedParameters::default();
        let mut classes = Vec::new();
        let (payload, spec) = match &loaded.spec {
            Ok(spec) => {
                let (inputs, rows) = spec.rows(&request).inspect_err(invalid)?;
                if rows > limits.rows {
                    let text = format!("found a request of {rows} rows, expected at most {}", limits.rows);
                    return Err(Error::invalid(text)).inspect_err(invalid);
                }
                classes = classes_of(&request.outputs).inspect_err(invalid)?;
                wanted = spec.wanted(&request);
                let bytes = spec.answer_bytes(&wanted, &classes, rows);
                if bytes > limits.body_bytes {
                    let text = format!(
                        "the answer would have {bytes} bytes, expected at most {}: ask for fewer rows or outputs",
                        limits.body_bytes
                    );
                    return Err(Error::new(Status::TooLarge, text)).inspect_err(invalid);
                }
                held.reserve(bytes)?;
                parameters = spec.passed_on(request);
                (Payload::Rows { inputs, rows }, Some(spec))
            }
            Err(reason) => {
                self.counts.passed_on(*reason);
                wanted = Vec::new();
                (Payload::Whole(Box::new(request)), None)
            }
        };
        let rebuilt = wanted.iter().all(|index| loaded.rebuilt.contains(index));
        let ask = Ask {
            payload,
            deadline,
            priority: wishes.priority,
            redundancy: wishes.redundancy,
            allow_reconstructed: wishes.allow_reconstructed && (loaded.rebuilt.is_empty() || rebuilt),
            headers,
            parameters,
        };
        let answers = loaded.runtime.ask(ask).await?;
        response.parameters = notes(&answers);
        response.outputs = match spec {
            Some(spec) => spec.outputs_of(&wanted, &answers),
            None => answers
                .into_iter()
                .flat_map(|answer| match answer.values {
                    Values::Whole(outputs) => outputs,
                    Values::Row(_) => Vec::new(),
                })
                .collect(),
        };
        if spec.is_none() {
            held.reserve(response.outputs.iter().map(|output| output.data.len()).sum())?;
        } else {
            for (output, most) in response.outputs.iter_mut().zip(classes) {
                if let Some(most) = most {
                    classify(output, most)?;
                }
            }
        }
        Ok(response)
    }
}

impl Served {
    /// Checks that each parameter of a request is handled here, or can be passed on to an instance.
    fn check_parameters(&self, request: &InferRequest) -> Result<(), Error> {
        let others = request.parameters.keys().filter(|name| !OWN.contains(&name.as_str()));
        let Some(name) = others.chain(request.inputs.iter().flat_map(|input| input.parameters.keys())).next()
        else {
            return Ok(());
        };
        let why = match self.config.parameters {
            ParametersPolicy::Refuse => "which the model refuses",
            // Embedded and synthetic instances have no parameters.
            ParametersPolicy::PassOn if self.config.instances.iter().all(|of| of.remote.is_none()) => {
                "which the model does not have"
            }
            ParametersPolicy::PassOn => return Ok(()),
        };
        Err(Error::invalid(format!("found the parameter '{name}', {why}: '{}'", self.config.name)))
    }
}

/// Checks that each output is requested once.
fn check_outputs(outputs: &[RequestedOutput]) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    match outputs.iter().find(|output| !names.insert(&output.name)) {
        None => Ok(()),
        Some(RequestedOutput { name, .. }) => {
            Err(Error::invalid(format!("found the output '{name}' twice, expected it once")))
        }
    }
}

/// The number of classes that each requested output asks for, if it asks for any.
fn classes_of(outputs: &[RequestedOutput]) -> Result<Vec<Option<usize>>, Error> {
    if let Some((name, other)) = outputs.iter().find_map(|RequestedOutput { name, parameters }| {
        Some((name, parameters.keys().find(|parameter| *parameter != CLASSIFICATION)?))
    }) {
        return Err(Error::invalid(format!(
            "found the parameter '{other}' of output '{name}', expected none but {CLASSIFICATION}"
        )));
    }
    let of = |output: &RequestedOutput| match output.parameters.get(CLASSIFICATION) {
        None => Ok(None),
        Some(Parameter::Int(most @ 1..)) => Ok(usize::try_from(*most).ok()),
        Some(other) => Err(Error::invalid(format!(
            "found classification = {other} for output '{}', expected a number from 1",
            output.name
        ))),
    };
    outputs.iter().map(of).collect()
}

/// Replaces an output by the largest elements of each row, as strings `value:index`, largest first
/// (Triton's classification extension).
fn classify(output: &mut Tensor, most: usize) -> Result<(), Error> {
    let dtype = output.datatype.dtype().ok_or_else(|| {
        Error::invalid(format!("cannot classify output '{}' of {}", output.name, output.datatype))
    })?;
    let rows = output.shape.first().map_or(1, |&rows| rows as usize).max(1);
    let data = output.data.contiguous();
    let mut values = vec![0.0_f64; data.len() / dtype.size()];
    f64::decode(dtype, &data, &mut values);
    let elements = values.len() / rows;
    let most = most.min(elements);
    let mut strings = Vec::new();
    for row in values.chunks(elements.max(1)) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&one, &other| row[other].total_cmp(&row[one]));
        for &index in order.iter().take(most) {
            let text = format!("{:.6}:{index}", row[index]);
            strings.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            strings.extend(text.as_bytes());
        }
    }
    output.datatype = Datatype::Bytes;
    output.shape = vec![rows as u64, most as u64];
    output.data = bytes::Bytes::from(strings).into();
    Ok(())
}

impl Wishes {
    fn of(parameters: &Parameters) -> Result<Self, Error> {
        let whole = |name: &str| match parameters.get(name) {
            None => Ok(0),
            Some(Parameter::Uint(value)) => Ok(*value),
            Some(Parameter::Int(value)) => u64::try_from(*value)
                .map_err(|_| Error::invalid(format!("found {name} = {value}, expected a number from 0"))),
            Some(other) => Err(Error::invalid(format!("found {name} = {other}, expected a whole number"))),
        };
        let timeout = whole("timeout")?;
        let priority = whole("priority")?;
        let allow_reconstructed = match parameters.get("parm_allow_reconstructed") {
            None => true,
            Some(Parameter::Bool(allow)) => *allow,
            Some(other) => {
                let text = format!("found parm_allow_reconstructed = {other}, expected true or false");
                return Err(Error::invalid(text));
            }
        };
        let redundancy = match parameters.get(REDUNDANCY) {
            None => RedundancyLevel::Normal,
            Some(Parameter::String(name)) if name == "none" => RedundancyLevel::None,
            Some(Parameter::String(name)) if name == "normal" => RedundancyLevel::Normal,
            Some(Parameter::String(name)) if name == "critical" => RedundancyLevel::Critical,
            Some(other) => {
                let text = format!("found {REDUNDANCY} = {other}, expected none, normal or critical");
                return Err(Error::invalid(text));
            }
        };
        let sequence = match parameters.get("sequence_id") {
            // A sequence may have a name in place of a number.
            Some(Parameter::String(name)) if !name.is_empty() => {
                Some(name.bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into())))
            }
            Some(Parameter::String(_)) => None,
            _ => Some(whole("sequence_id")?).filter(|&id| id != 0),
        };
        let flag = |name: &str| match parameters.get(name) {
            None => Ok(false),
            Some(Parameter::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Error::invalid(format!("found {name} = {other}, expected true or false"))),
        };
        let (starts, ends) = (flag("sequence_start")?, flag("sequence_end")?);
        if sequence.is_none() && (starts || ends) {
            return Err(Error::invalid("found a start or end of a sequence, expected its sequence_id, too"));
        }
        let sequence = sequence.map(|sequence| SequenceStep { sequence, starts, ends });
        Ok(Self {
            deadline: (timeout > 0).then(|| Duration::from_micros(timeout)),
            priority: if priority == 0 { PRIORITY } else { u8::try_from(priority).unwrap_or(u8::MAX) },
            allow_reconstructed,
            redundancy,
            sequence,
        })
    }
}

impl Spec {
    /// The parameters of a request that are passed on to instances with its rows.
    fn passed_on(&self, mut request: InferRequest) -> PassedParameters {
        request.parameters.retain(|name, _| !OWN.contains(&name.as_str()));
        let input = |spec: &RowTensor| {
            let input = request.inputs.iter_mut().find(|input| input.name == spec.name);
            input.map(|input| std::mem::take(&mut input.parameters)).unwrap_or_default()
        };
        let inputs = self.inputs.iter().map(input).collect();
        PassedParameters { request: request.parameters, inputs }
    }

    /// The indices of the requested outputs.
    fn wanted(&self, request: &InferRequest) -> Vec<usize> {
        if request.outputs.is_empty() {
            return (0..self.outputs.len()).collect();
        }
        let index = |name: &str| self.outputs.iter().position(|output| output.name == name);
        request.outputs.iter().filter_map(|output| index(&output.name)).collect()
    }

    /// The most bytes of the outputs of a response.
    fn answer_bytes(&self, wanted: &[usize], classes: &[Option<usize>], rows: usize) -> usize {
        let bytes = |(at, &index): (usize, &usize)| {
            let output = self.outputs.get(index)?;
            let classes = classes.get(at).copied().flatten().map_or(0, |most| most.min(output.elements()));
            Some(output.bytes.saturating_add(classes.saturating_mul(class_bytes(output.datatype))))
        };
        let of_row = wanted.iter().enumerate().filter_map(bytes).fold(0, usize::saturating_add);
        of_row.saturating_mul(rows)
    }

    /// The outputs of a response: the rows of all answers as chunks, without copying.
    fn outputs_of(&self, wanted: &[usize], answers: &[RowAnswer]) -> Vec<Tensor> {
        let tensor = |&index: &usize| {
            let output = self.outputs.get(index)?;
            let rows = answers.iter().filter_map(|answer| match &answer.values {
                Values::Row(outputs) => outputs.get(index).cloned(),
                Values::Whole(_) => None,
            });
            Some(Tensor {
                name: output.name.clone(),
                datatype: output.datatype,
                shape: output.shape_of(answers.len()),
                parameters: Parameters::default(),
                data: rows.collect(),
            })
        };
        wanted.iter().filter_map(tensor).collect()
    }
}

/// The parameters of a response, which list the rows that are not predictions of the deployed model.
fn notes(answers: &[RowAnswer]) -> Parameters {
    let mut notes = Parameters::new();
    let mut note = |name: &str, of: &dyn Fn(usize, &How) -> Option<String>| {
        let found: Vec<String> =
            answers.iter().enumerate().filter_map(|(row, answer)| of(row, &answer.how)).collect();
        if !found.is_empty() {
            notes.insert(name.to_owned(), Parameter::String(found.join(",")));
        }
    };
    note("parm_reconstructed", &|row, how| matches!(how, How::Reconstructed { .. }).then(|| row.to_string()));
    note("parm_confidence", &|_, how| match how {
        How::Reconstructed { confidence } => Some(format!("{confidence:.3}")),
        _ => None,
    });
    note("parm_approximate", &|row, how| matches!(how, How::Approximate).then(|| row.to_string()));
    note("parm_default", &|row, how| matches!(how, How::Default(_)).then(|| row.to_string()));
    note("parm_default_reason", &|_, how| match how {
        How::Default(Reason::Deadline) => Some("deadline".to_owned()),
        How::Default(Reason::Failed) => Some("failed".to_owned()),
        _ => None,
    });
    notes
}

impl Loaded {
    /// Passes a request of a sequence on to the sequence's instance.
    async fn in_sequence(
        &self,
        step: SequenceStep,
        mut request: InferRequest,
        version: &str,
        wait: Duration,
        headers: Headers,
    ) -> Result<Vec<Tensor>, Error> {
        let Joined { instance, suspected, .. } = self
            .of_sequence(step)
            .ok_or_else(|| Error::new(Status::Unavailable, "the instance of the sequence has left"))?;
        request.model.clone_from(&self.deployed_name);
        version.clone_into(&mut request.version);
        // The client's id need not be unique; the call gets a unique one.
        request.id.clear();
        let call = instance.infer(request, CallContext { timeout: Some(wait), headers, coded: None });
        let answer = within(wait, call).await.inspect_err(|error| {
            if matches!(error, CallError::Unreachable(_) | CallError::Timeout(_)) {
                suspected.notify_one();
            }
        });
        answer.map(|response| response.outputs).map_err(|error| error.to_client())
    }
}
