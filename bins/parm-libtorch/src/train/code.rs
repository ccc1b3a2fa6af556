//! Codes: parity models, and learned coders with what they work with.

use anyhow::Result;
use parm::codes::{CodeName, CodeSpec, Encoding, LinearCode};
use parm_cli::options::{CodeOptions, Common};
use parm_cli::tools::train::{
    Coders, DecoderKind, EncoderKind, Joint, LearnedEncoder, Norm, Parity, ParityNetwork, RunsOn,
};
use parm_cli::{Io, Usage};

use crate::train::Machine;
use crate::train::data::Teacher;
use crate::train::plan::{Fixed, Plan, Training, check_network};

pub(crate) fn run_parity(options: &Parity, common: &Common, io: &mut Io) -> Result<()> {
    let code = options.code.choose(io)?;
    if !code.name().is_trained() || code.trained().is_some() {
        let name = options.code.code.display();
        let names: Vec<&str> =
            CodeName::ALL.into_iter().filter(|name| name.is_trained()).map(CodeName::as_str).collect();
        return Err(Usage::error(format!("--code {name}: expected {}", names.join(" or "))));
    }
    if code.r() == 0 {
        return Err(Usage::error("-r 0: found a code without parity queries, expected at least 1"));
    }
    // What no deployed model can mend is refused before anything is read.
    check_network(&options.network)?;
    let machine = Machine::prepare(options.compute, &options.timings, common, io)?;
    let copies = options.network.is_open();
    let teacher = Teacher::read(&options.teaching, options.read, copies, &machine, common, io)?;
    let plan = Plan {
        spec: code.spec().clone(),
        code: code.kind().clone(),
        joint: None,
        encoder: if *code.encoding() == Encoding::Tiled { EncoderKind::Concat } else { EncoderKind::Sum },
        runs_on: RunsOn::Parity,
        decoder: DecoderKind::Linear,
        training: Training::Apart,
        fixed: Fixed::default(),
        network: &options.network,
        objective: &options.objective,
        recipe: &options.recipe,
        data: &options.teaching.data,
        output: &options.output,
        machine: &machine,
    };
    plan.run(&teacher, common, io)?;
    machine.report(teacher.queries.count(), io)
}

pub(crate) fn run_coders(options: &Coders, common: &Common, io: &mut Io) -> Result<()> {
    let (k, r) = (options.k as usize, options.r as usize);
    if options.encoder == EncoderKind::Concat && r > 1 {
        return Err(Usage::error("--encoder concat has one parity query: leave out -r"));
    }
    let ParityNetwork { model, hidden, parity_width, init, freeze, bn } = &options.network;
    let asked = model.is_some() || hidden.is_some() || *parity_width > 1 || init.is_some();
    let asked = asked || !freeze.is_empty() || *bn != Norm::Train;
    if asked && options.runs_on == RunsOn::Deployed {
        return Err(Usage::error(
            "--model, --hidden, --parity-width, --init, --freeze, --bn: found no parity models to train, expected --runs-on parity",
        ));
    }
    check_network(&options.network)?;
    let machine = Machine::prepare(options.compute, &options.timings, common, io)?;
    let copies = options.runs_on == RunsOn::Parity && options.network.is_open();
    let teacher = Teacher::read(&options.teaching, options.read, copies, &machine, common, io)?;
    let plan = Plan {
        spec: CodeSpec { r: Some(r), ..CodeSpec::new(options.encoder.code(), k) },
        code: LinearCode::sum(k, r)?.into(),
        joint: None,
        encoder: options.encoder,
        runs_on: options.runs_on,
        decoder: options.decoder,
        training: Training::Together,
        fixed: Fixed::default(),
        network: &options.network,
        objective: &options.objective,
        recipe: &options.recipe,
        data: &options.teaching.data,
        output: &options.output,
        machine: &machine,
    };
    plan.run(&teacher, common, io)?;
    machine.report(teacher.queries.count(), io)
}

pub(crate) fn run_joint(options: &Joint, common: &Common, io: &mut Io) -> Result<()> {
    let Joint { code: name, k, r, weights, encoder, decoder, runs_on, curve, .. } = options;
    let is_learned = *name == CodeName::Learned;
    if encoder.is_some() && !is_learned {
        return Err(Usage::error(format!("--encoder goes with --code learned, not with --code {name}")));
    }
    // A learned encoder's linear decoder is that of 'sum'.
    let linear = if is_learned { CodeName::Sum } else { *name };
    let code = CodeOptions { code: linear.as_str().into(), k: Some(*k), r: *r, weights: weights.clone() };
    let code = curve.choose(&code, io)?;
    let decoder = decoder.unwrap_or(if is_learned { DecoderKind::Mlp } else { DecoderKind::Linear });
    let on_deployed = is_learned || name.interpolates();
    let runs_on = runs_on.unwrap_or(if on_deployed { RunsOn::Deployed } else { RunsOn::Parity });
    if name.interpolates() && (decoder, runs_on) != (DecoderKind::Linear, RunsOn::Deployed) {
        return Err(Usage::error(format!(
            "--decoder, --runs-on: found --code {name}, all of whose coded queries run on the deployed model, and \
             whose predictions are interpolated; expected neither"
        )));
    }
    let ParityNetwork { model, parity_width, .. } = &options.network;
    if (model.is_some() || *parity_width > 1) && runs_on == RunsOn::Deployed {
        return Err(Usage::error(
            "--model, --parity-width: found no parity models to train, expected --runs-on parity",
        ));
    }
    check_network(&options.network)?;
    let others = (f64::from(*k) - 1.0).max(1.0);
    let weight = options.weight.unwrap_or(if name.interpolates() { 1.0 } else { 1.0 / others });
    io.resolve("weight", weight);
    io.resolve("r", code.r());
    io.resolve_choice("decoder", &decoder);
    io.resolve_choice("runs-on", &runs_on);
    let machine = Machine::prepare(options.compute, &options.timings, common, io)?;
    let teacher = Teacher::read_joint(options, &machine, common, io)?;
    let plan = Plan {
        spec: CodeSpec { name: *name, ..code.spec().clone() },
        code: code.kind().clone(),
        joint: Some(weight),
        encoder: match (encoder, code.encoding()) {
            (Some(LearnedEncoder::Conv), _) => EncoderKind::Conv,
            _ if is_learned => EncoderKind::Mlp,
            (_, Encoding::Tiled) => EncoderKind::Concat,
            _ => EncoderKind::Sum,
        },
        runs_on,
        decoder,
        training: Training::Together,
        fixed: Fixed::default(),
        network: &options.network,
        objective: &options.objective,
        recipe: &options.recipe,
        data: &options.data,
        output: &options.output,
        machine: &machine,
    };
    plan.run(&teacher, common, io)?;
    machine.report(teacher.queries.count(), io)
}
