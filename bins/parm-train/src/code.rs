//! Codes: parity models, and learned coders with what they work with.

use anyhow::Result;
use parm::codes::{CodeName, Encoding, LinearCode};
use parm_cli::options::Common;
use parm_cli::tools::train::{Coders, DecoderKind, EncoderKind, Norm, Parity, ParityNetwork, RunsOn};
use parm_cli::{Io, Usage};

use crate::Machine;
use crate::data::Teacher;
use crate::plan::{Fixed, Plan, Training, check_network};

pub(crate) fn run_parity(options: &Parity, common: &Common, io: &mut Io) -> Result<()> {
    let code = options.code.choose(io)?;
    if !code.name().is_trained() || code.trained().is_some() {
        let name = options.code.code.display();
        let names: Vec<&str> =
            CodeName::ALL.into_iter().filter(|name| name.is_trained()).map(CodeName::as_str).collect();
        return Err(Usage::error(format!("--code {name}: expected {}", names.join(" or "))));
    }
    let linear = code.systematic().filter(|linear| linear.r() > 0);
    let Some(linear) = linear else {
        return Err(Usage::error("-r 0: found a code without parity queries, expected at least 1"));
    };
    // What no deployed model can mend is refused before anything is read.
    check_network(&options.network)?;
    let machine = Machine::prepare(options.compute, &options.timings, common, io)?;
    let copies = options.network.is_open();
    let teacher = Teacher::read(&options.teaching, options.read, copies, &machine, common, io)?;
    let plan = Plan {
        name: code.name(),
        code: linear.clone(),
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
    machine.report(teacher.queries.count())
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
    let code = LinearCode::sum(k, r)?;
    check_network(&options.network)?;
    let machine = Machine::prepare(options.compute, &options.timings, common, io)?;
    let copies = options.runs_on == RunsOn::Parity && options.network.is_open();
    let teacher = Teacher::read(&options.teaching, options.read, copies, &machine, common, io)?;
    let plan = Plan {
        name: options.encoder.code(),
        code,
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
    machine.report(teacher.queries.count())
}
