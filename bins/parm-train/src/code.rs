//! Codes: parity models, and learned coders with what they work with.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use parm::LinearCode;
use parm::code_dir::{self, CodeFile, MadeBy, RunsOn, Scores};
use parm_cli::options::{Common, Encoding};
use parm_cli::tools::train::{
    self as arguments, Coders, DecoderKind, EncoderKind, Init, Parity, ParityNetwork,
};
use parm_cli::{Io, Usage};
use parm_torch::train::{
    AnswersPlan, CodeScores, Coding, DecoderPlan, EncoderPlan, Recipe, Start, Trained, single,
};
use parm_torch::{Description, Model, Network};

use crate::data::Teacher;
use crate::recipe::{Task, objective, recipe};
use crate::watch::Watch;
use crate::{NAME, family, prepare};

pub(crate) fn run_parity(options: &Parity, common: &Common, io: &mut Io) -> Result<()> {
    let chosen = options.code.choose(io)?;
    let code = chosen.linear;
    if !["sum", "concat"].contains(&options.code.code.as_str()) {
        return Err(Usage::error(format!("--code {}: expected sum or concat", options.code.code)));
    }
    if code.r() == 0 {
        return Err(Usage::error("-r 0: found a code without parity queries, expected at least 1"));
    }
    let encoder = match chosen.encoding {
        Encoding::Weights => EncoderPlan::Sum,
        Encoding::Tiles => EncoderPlan::Concat,
    };
    // What no deployed model can mend is refused before anything is read.
    family_of(&options.network, None)?;
    let device = prepare(options.compute, common, io)?;
    let teacher = Teacher::read(&options.teaching, options.read, device, io)?;
    let start = parity_start(&options.network, options.recipe.recipe, &teacher)?;
    let (loss, compared) = objective(&options.objective, options.recipe.recipe, &teacher.output);
    let recipe = recipe(&options.recipe, Task::Parity(code.k()), teacher.queries.count())?;
    let all = Coding {
        queries: &teacher.queries,
        predictions: &teacher.predictions,
        deployed: &teacher.deployed.sha256,
        truth: teacher.truth.as_ref(),
        code: &code,
        encoder,
        answers: AnswersPlan::Parity(vec![start.clone(); code.r()]),
        decoder: DecoderPlan::Linear,
        loss,
        compared,
        stream: 0,
        device,
    };
    retract(&options.output)?;
    let watch = Watch::new(common, io, u64::from(recipe.epochs) * code.r() as u64);
    let mut trained = Trained::default();
    for j in 0..code.r() {
        // Each is trained as the only one: any of them may be all that arrives.
        let own = single(&code, j)?;
        let folder = options.output.join("run").join(format!("parity-{j}"));
        let data = || options.teaching.data.to_string();
        let (parity, _) = watch.run(folder, &format!("parity {j}: "), |around| {
            let answers = AnswersPlan::Parity(vec![start.clone()]);
            let one = Coding { code: &own, answers, stream: j as u64 + 1, ..all.clone() };
            one.train(&recipe, around).with_context(data)
        })?;
        trained.parity.extend(parity.parity);
    }
    drop(watch);
    let name = if matches!(all.encoder, EncoderPlan::Concat) { "concat" } else { "sum" };
    finish(&options.output, name, &all, trained, &teacher, &recipe, common, io)
}

pub(crate) fn run_coders(options: &Coders, common: &Common, io: &mut Io) -> Result<()> {
    let (k, r) = (options.k as usize, options.r as usize);
    if options.encoder == EncoderKind::Concat && r > 1 {
        return Err(Usage::error("--encoder concat has one parity query: leave out -r"));
    }
    let code =
        if options.encoder == EncoderKind::Concat { LinearCode::sum(k, 1)? } else { LinearCode::sum(k, r)? };
    family_of(&options.network, None)?;
    let device = prepare(options.compute, common, io)?;
    let teacher = Teacher::read(&options.teaching, options.read, device, io)?;
    let (shape, classes) = (teacher.queries.shape(), teacher.predictions.shape());
    let learn = |description| Start { description, initial: None };
    let encoder = match options.encoder {
        EncoderKind::Sum => EncoderPlan::Sum,
        EncoderKind::Concat => EncoderPlan::Concat,
        EncoderKind::Mlp => EncoderPlan::Learned(learn(Description::encoder_mlp(k, r, shape))),
        EncoderKind::Conv => EncoderPlan::Learned(learn(Description::encoder_conv(k, r, shape)?)),
    };
    let answers = match (options.runs_on, &teacher.model) {
        (arguments::RunsOn::Parity, _) => {
            let start = parity_start(&options.network, options.recipe.recipe, &teacher)?;
            AnswersPlan::Parity(vec![start; r])
        }
        (arguments::RunsOn::Deployed, Some(model)) => AnswersPlan::Deployed(model),
        (arguments::RunsOn::Deployed, None) => {
            return Err(Usage::error(
                "--runs-on deployed needs the deployed model itself (--base), not recorded predictions",
            ));
        }
    };
    let mut network = Description::decoder_mlp(k, r, classes);
    network.output.clone_from(&teacher.output);
    let decoder = match options.decoder {
        DecoderKind::Linear => DecoderPlan::Linear,
        DecoderKind::Mlp => DecoderPlan::Learned(learn(network)),
    };
    let (loss, compared) = objective(&options.objective, options.recipe.recipe, &teacher.output);
    let recipe = recipe(&options.recipe, Task::Coders(k), teacher.queries.count())?;
    let coding = Coding {
        queries: &teacher.queries,
        predictions: &teacher.predictions,
        deployed: &teacher.deployed.sha256,
        truth: teacher.truth.as_ref(),
        code: &code,
        encoder,
        answers,
        decoder,
        loss,
        compared,
        stream: 0,
        device,
    };
    retract(&options.output)?;
    let watch = Watch::new(common, io, u64::from(recipe.epochs));
    let (trained, _) = watch.run(options.output.join("run"), "", |around| {
        coding.train(&recipe, around).with_context(|| options.teaching.data.to_string())
    })?;
    drop(watch);
    let name = match options.encoder {
        EncoderKind::Sum => "sum",
        EncoderKind::Concat => "concat",
        EncoderKind::Mlp | EncoderKind::Conv => "learned",
    };
    finish(&options.output, name, &coding, trained, &teacher, &recipe, common, io)
}

/// The network of a parity model, as the options and the deployed model say.
fn family_of(options: &ParityNetwork, deployed: Option<&Network>) -> Result<parm_torch::Family> {
    let deployed = deployed.and_then(|network| network.description().family());
    family::choose(options.model, options.hidden.as_deref(), deployed, options.parity_width)
}

fn parity_start<'a>(
    options: &ParityNetwork,
    whose: arguments::Whose,
    teacher: &'a Teacher,
) -> Result<Start<'a>> {
    let native = match &teacher.model {
        Some(Model::Native(network)) => Some(&**network),
        _ => None,
    };
    let family = family_of(options, native)?;
    let mut description = Description::new(&family, teacher.queries.shape(), teacher.predictions.shape())?;
    description.output.clone_from(&teacher.output);
    let default = if whose == arguments::Whose::Paper { Init::Random } else { Init::Auto };
    let initial = match options.init.unwrap_or(default) {
        Init::Random => None,
        Init::Auto => native.filter(|network| network.is_like(&description)),
        Init::Base if native.is_none() => {
            return Err(Usage::error(
                "--init base needs --base with a native model, whose weights can be taken",
            ));
        }
        Init::Base => native,
    };
    Ok(Start { description, initial })
}

/// Writes the parts, then their code.json.
#[allow(clippy::too_many_arguments)]
fn finish(
    directory: &Path,
    name: &str,
    coding: &Coding<'_>,
    trained: Trained,
    teacher: &Teacher,
    recipe: &Recipe,
    common: &Common,
    io: &mut Io,
) -> Result<()> {
    let save = |network: &Network, name: String| {
        let script = directory.join(&name).with_extension("pt");
        network.save(&directory.join(&name))?;
        network.export(&script, None).with_context(|| script.display().to_string())?;
        anyhow::Ok(name)
    };
    let part = |network: &Option<Network>, name: &str| {
        network.as_ref().map(|network| save(network, format!("{name}.safetensors"))).transpose()
    };
    let (encoder, decoder) = (part(&trained.encoder, "encoder")?, part(&trained.decoder, "decoder")?);
    let mut parity = Vec::new();
    for (j, network) in trained.parity.iter().enumerate() {
        parity.push(save(network, format!("parity-{j}.safetensors"))?);
    }
    let runs_on = match coding.answers {
        AnswersPlan::Parity(_) => RunsOn::Parity,
        AnswersPlan::Deployed(_) => RunsOn::Deployed,
    };
    let scores = coding.score(trained, recipe)?;
    let code = coding.code;
    let file = CodeFile {
        format: code_dir::FORMAT,
        code: name.into(),
        k: code.k(),
        r: code.r(),
        weights: (0..code.r()).map(|j| code.weights(j)).collect(),
        query_shape: teacher.queries.shape().to_vec(),
        prediction_shape: teacher.predictions.shape().to_vec(),
        output: teacher.output.clone(),
        runs_on,
        parity,
        encoder,
        decoder,
        deployed: teacher.deployed.clone(),
        scores: Scores {
            available: scores.available,
            degraded: scores.degraded,
            agreement: scores.agreement,
            n: scores.reconstructions,
        },
        made_by: MadeBy { version: env!("CARGO_PKG_VERSION").into(), command: io.command.clone() },
    };
    file.save(directory)?;
    common.count(io, NAME, &format!("{}: {}", directory.display(), scored(&scores)));
    Ok(())
}

/// Removes the mark of a finished code: what follows is unfinished.
fn retract(directory: &Path) -> Result<()> {
    let path = directory.join(code_dir::FILE_NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot replace", path.display()))
        }
        _ => Ok(()),
    }
}

fn scored(scores: &CodeScores) -> String {
    let fit = |of: fn(parm_torch::train::Fit) -> f64| scores.fit.map(of);
    let values = [
        ("A_a", scores.available),
        ("A_d", scores.degraded),
        ("agreement", scores.agreement),
        ("mean IoU", fit(|fit| fit.mean)),
        ("IoU >= 0.5", fit(|fit| fit.half)),
        ("IoU >= 0.75", fit(|fit| fit.three_quarters)),
    ];
    let known = values.iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value:.4}, ")));
    format!("{}{} reconstructions scored", known.collect::<String>(), scores.reconstructions)
}
