//! A code to train: what the options of a call come to, or a run of a sweep.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use parm::Task;
use parm::codes::directory::{self, CodeFile, Deployed, Scores};
use parm::codes::{CodeKind, CodeSpec, Matrices};
use parm_cli::options::Common;
use parm_cli::tools::train::{
    DecoderKind, EncoderKind, Init, Norm, Objective, ParityModel, ParityNetwork, Recipe, RunsOn, Share,
    ValidationOption, Whose,
};
use parm_cli::{Input, Io, Usage};
use parm_torch::train::{
    self, AnswersPlan, BatchNorm, Begin, CodeScores, Coding, Compared, DecoderPlan, DeployedPlan,
    EncoderPlan, Joint, Kept, Layers, Loss, Start, TrainError, Trained, Truth, Validation, single,
};
use parm_torch::{Description, Family, Model, Network, NotTrainable, Output, Phase};

use crate::train::Machine;
use crate::train::data::{Predicted, Teacher};
use crate::train::family;
use crate::train::recipe::{self, Kind, objective, recipe};
use crate::train::watch::{Watch, duration};

/// How the parts that are networks are trained.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Training {
    /// Each parity model as the only one.
    Apart,
    /// All together.
    Together,
    /// There is none: the deployed model answers what an encoder and a decoder without weights make.
    Nothing,
}

/// The coders that keep their random weights, if they are networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) encoder: bool,
    pub(crate) decoder: bool,
}

/// The models that parity models may begin as.
#[derive(Default)]
struct Initial {
    /// The deployed model as wide as parity models are to be, if it is an MLP.
    wide: Option<Network>,
    /// The model of the file that the options name.
    file: Option<Model>,
}

/// A code to train.
pub(crate) struct Plan<'a> {
    pub(crate) spec: CodeSpec,
    /// Its matrices; those of a learned encoder are the linear decoder's.
    pub(crate) code: CodeKind,
    /// The weight of the code's loss, if the deployed model is trained with the code.
    pub(crate) joint: Option<f64>,
    pub(crate) encoder: EncoderKind,
    pub(crate) runs_on: RunsOn,
    pub(crate) decoder: DecoderKind,
    pub(crate) training: Training,
    pub(crate) fixed: Fixed,
    pub(crate) network: &'a ParityNetwork,
    pub(crate) objective: &'a Objective,
    pub(crate) recipe: &'a Recipe,
    /// Where the rows come from, for messages.
    pub(crate) data: &'a Input,
    /// The code directory to write.
    pub(crate) output: &'a Path,
    pub(crate) machine: &'a Machine,
}

impl Plan<'_> {
    /// Trains the code and writes its parts, then their code.json.
    pub(crate) fn run(&self, teacher: &Teacher, common: &Common, io: &mut Io) -> Result<()> {
        let initial = self.initial(teacher, common, io)?;
        let coding = self.coding(teacher, &initial)?;
        let task = match (self.joint, self.training) {
            (Some(_), _) => Kind::Joint,
            (None, Training::Apart) => Kind::Parity,
            (None, _) => Kind::Coders,
        };
        let task = task(self.code.k());
        let recipe = recipe(self.recipe, task, layers(&coding)?, teacher.queries.count())?;
        recipe::check(&recipe, teacher.task)?;
        let trains = self.training != Training::Nothing;
        check_free(self.recipe, &self.output.join(directory::FILE_NAME), &self.first_run(), trains)?;
        let recipe = train::Recipe {
            norm: norm(self.network),
            ..recipe.resumed(&self.first_run(), &recipe::unset(self.recipe))?
        };
        recipe::record(&recipe, coding.loss, teacher.task, io);
        let compared = if coding.compared == Compared::Sums { "sums" } else { "reconstructions" };
        io.resolve("compare", compared);
        for note in self.notes(teacher, &coding)? {
            common.note(io, &note);
        }
        // The mark of a finished code: what follows is unfinished.
        remove(&self.output.join(directory::FILE_NAME))?;
        let begin = Instant::now();
        let trained = self.train(&coding, &recipe, common, io)?;
        let scores = self.finish(&coding, trained, teacher, &recipe, io)?;
        let took = duration(begin.elapsed().as_secs_f64());
        common.report(io, &format!("{}: done in {took}, {}", self.output.display(), scored(&scores)));
        Ok(())
    }

    /// Scores the code, as it is in its directory, on rows of their own.
    pub(crate) fn test(&self, rows: &Teacher) -> Result<CodeScores> {
        let file = CodeFile::load(self.output)?;
        let load =
            |name: &String| Model::load_part(&self.output.join(name), self.machine.device, &rows.choices);
        let trained = Trained {
            deployed: None,
            encoder: file.encoder.as_ref().map(load).transpose()?,
            parity: file.parity.iter().map(load).collect::<Result<_, _>>()?,
            decoder: file.decoder.as_ref().map(load).transpose()?,
        };
        let count = rows.queries.count();
        let none = ValidationOption { share: Share::Rows(0), tail: true };
        let none = Recipe { validation: none, ..self.recipe.clone() };
        // What is scored are the rows for validation: all of them.
        let validation = Validation { rows: count, kept: Kept::Tail };
        let all = train::Recipe {
            validation,
            ..recipe(&none, Kind::Coders(self.code.k()), Layers::Linear, count)?
        };
        Ok(self.coding(rows, &Initial::default())?.score(trained, &all)?)
    }

    /// The models that parity models may begin as, besides the deployed model.
    fn initial(&self, teacher: &Teacher, common: &Common, io: &mut Io) -> Result<Initial> {
        let wide = match (&teacher.model, self.network.parity_width as usize) {
            (Some(Model::Native(network)), times) if times > 1 => network.widened(times, self.recipe.seed)?,
            _ => None,
        };
        let Some(ParityModel::File(path)) = &self.network.model else {
            return Ok(Initial { wide, file: None });
        };
        let at = || path.display().to_string();
        io.note_file(path);
        let model = Model::load(path, self.machine.device)?;
        model.check_trainable().with_context(at)?;
        if let Some(warning) = model.warning() {
            common.warn(io, &format!("{}: {warning}", at()));
        }
        let expected = teacher.queries.shape();
        if let Some(found) = model.query_shape().filter(|&found| found != expected) {
            bail!("{}: found a model of queries {found:?}, expected {expected:?} as of {}", at(), self.data);
        }
        Ok(Initial { wide, file: Some(model) })
    }

    /// What the options leave open and the deployed model cannot say.
    fn notes(&self, teacher: &Teacher, coding: &Coding<'_>) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let is_copied = self.runs_on == RunsOn::Parity && self.network.is_open();
        let learns = if is_copied { teacher.model.as_ref() } else { None };
        notes.extend(learns.and_then(Model::untrained_part));
        let why = match teacher.model.as_ref().map(Model::check_trainable) {
            Some(Ok(())) => None,
            Some(Err(NotTrainable { found, mend })) => {
                Some(format!("{} cannot be trained (found {found}: {mend})", teacher.name))
            }
            None => Some("there is no deployed model, only its predictions".into()),
        };
        let widths = || {
            let family = family_of(self.network, None)?;
            let shapes = (teacher.queries.shape(), &*teacher.prediction);
            anyhow::Ok(Description::new(&family, shapes.0, shapes.1)?.architecture)
        };
        if let (Some(why), true) = (why, is_copied) {
            notes.push(format!("parity model: an MLP {}, since {why} (--model, --hidden)", widths()?));
        }
        let is_mlp = |model: &Model| match model {
            Model::Native(network) => matches!(network.description().family(), Some(Family::Mlp { .. })),
            Model::Exported(_) | Model::Script(_) => false,
        };
        let is_other = teacher.model.as_ref().is_some_and(|model| !is_mlp(model));
        if is_other && self.network.model.is_none() && self.network.hidden.is_some() {
            notes.push(format!(
                "parity model: an MLP {} by --hidden, not a network like {} (no note with --model mlp)",
                widths()?,
                teacher.name
            ));
        }
        if let (Norm::Frozen, AnswersPlan::Parity(starts)) = (self.network.bn, &coding.answers)
            && !starts.iter().any(Start::has_norm)
        {
            notes.push(
                "--bn frozen: found parity models without batch normalisation, where it has no effect".into(),
            );
        }
        if teacher.task == Task::Regress && teacher.prediction.iter().product::<usize>() == 1 {
            let loss = if self.objective.loss.is_none() {
                "the loss is smooth-l1 and the score R2"
            } else {
                "the score is R2"
            };
            notes.push(format!("predictions of one number are values: {loss}"));
        }
        Ok(notes)
    }

    /// The folder of the run, or of the first one.
    fn first_run(&self) -> PathBuf {
        let run = self.output.join("run");
        if self.training == Training::Apart { run.join("parity-0") } else { run }
    }

    fn coding<'a>(&'a self, teacher: &'a Teacher, initial: &'a Initial) -> Result<Coding<'a>> {
        let (k, r) = (self.code.k(), self.spec.parities());
        let (shape, classes) = (teacher.queries.shape(), &*teacher.prediction);
        let [encoder, decoder] = [self.fixed.encoder, self.fixed.decoder]
            .map(|fixed| move |description| coder(description, !fixed));
        let encoder = match self.encoder {
            EncoderKind::Sum => EncoderPlan::Sum,
            EncoderKind::Concat => EncoderPlan::Concat,
            EncoderKind::Mlp => EncoderPlan::Learned(encoder(Description::encoder_mlp(k, r, shape))),
            EncoderKind::Conv => EncoderPlan::Learned(encoder(Description::encoder_conv(k, r, shape)?)),
        };
        let answers = match (self.runs_on, &teacher.model) {
            (RunsOn::Parity, _) => AnswersPlan::Parity(vec![self.parity(teacher, initial)?; r]),
            (RunsOn::Deployed, Some(_)) => AnswersPlan::Deployed,
            (RunsOn::Deployed, None) => {
                return Err(Usage::error(
                    "--runs-on deployed needs the deployed model itself (--base), not recorded predictions",
                ));
            }
        };
        let mut network = Description::decoder_mlp(k, r, classes);
        network.output = Output::Predictions(teacher.task);
        let decoder = match self.decoder {
            DecoderKind::Linear => DecoderPlan::Linear,
            DecoderKind::Mlp => DecoderPlan::Learned(decoder(network)),
        };
        let (whose, is_joint) = (self.recipe.recipe, self.joint.is_some());
        let (loss, compared) = objective(self.objective, whose, teacher.task, self.decoder, is_joint)?;
        Ok(Coding {
            queries: &teacher.queries,
            deployed: self.deployed(teacher)?,
            truth: teacher.truth.as_ref(),
            task: teacher.task,
            code: &self.code,
            encoder,
            answers,
            decoder,
            loss,
            compared,
            stream: 0,
            device: self.machine.device,
        })
    }

    fn deployed<'a>(&self, teacher: &'a Teacher) -> Result<DeployedPlan<'a>> {
        let model = teacher.model.as_ref();
        match (self.joint, &teacher.fixed, model) {
            (Some(weight), _, Some(model)) => {
                let begin = match model {
                    Model::Native(network) => Begin::Native {
                        description: Description {
                            output: Output::Predictions(teacher.task),
                            ..network.description().clone()
                        },
                        weights: Some(network),
                    },
                    other => Begin::Copy(other),
                };
                let start = Start { begin, held: self.network.freeze.clone(), learns: true };
                let loss = match teacher.truth {
                    Some(Truth::Boxes(_) | Truth::Values(_)) => Loss::SmoothL1,
                    _ => Loss::CrossEntropy,
                };
                Ok(DeployedPlan::Joint(Joint { start, loss, weight }))
            }
            (_, Some(Predicted { predictions, deployed }), model) => {
                Ok(DeployedPlan::Fixed { predictions, sha256: &deployed.sha256, model })
            }
            _ => Err(TrainError::Nothing.into()),
        }
    }

    /// A parity model at its start.
    fn parity<'a>(&self, teacher: &'a Teacher, initial: &'a Initial) -> Result<Start<'a>> {
        let begin = match (&initial.file, &teacher.model) {
            (Some(file), _) => self.begin_as(file, teacher)?,
            (None, Some(base)) if self.network.is_open() && self.copies(base)? => Begin::Copy(base),
            _ => self.native(teacher, initial.wide.as_ref())?,
        };
        Ok(Start { begin, held: self.network.freeze.clone(), learns: true })
    }

    /// Whether parity models begin as copies of the deployed model, which is not native. One that cannot be
    /// trained is not copied.
    fn copies(&self, base: &Model) -> Result<bool> {
        if matches!(base, Model::Native(_)) || base.check_trainable().is_err() {
            return Ok(false);
        }
        if self.network.parity_width > 1 {
            return Err(family::no_mlp("--parity-width"));
        }
        match self.network.init {
            Some(Init::Random) => Err(Usage::error(
                "--init random: found a deployed model that is not a native network, whose random weights are \
                 not known; expected --model with a kind of network",
            )),
            _ => Ok(true),
        }
    }

    /// A parity model that begins as the model of a file.
    fn begin_as<'a>(&self, file: &'a Model, teacher: &Teacher) -> Result<Begin<'a>> {
        match (file, &self.network.init) {
            (Model::Native(network), init) => {
                let mut description = network.description().clone();
                description.output = Output::Predictions(teacher.task);
                description.query_shape = Some(teacher.queries.shape().to_vec());
                let weights = (*init != Some(Init::Random)).then_some(&**network);
                Ok(Begin::Native { description, weights })
            }
            (_, Some(Init::Random)) => Err(Usage::error(
                "--init random: found the file of a model that is not a native network, whose random weights \
                 are not known; expected --model with a kind of network",
            )),
            (model, _) => Ok(Begin::Copy(model)),
        }
    }

    /// A parity model that is a native network.
    fn native<'a>(&self, teacher: &'a Teacher, wide: Option<&'a Network>) -> Result<Begin<'a>> {
        let native = match &teacher.model {
            Some(Model::Native(network)) => Some(&**network),
            _ => None,
        };
        let family = family_of(self.network, native)?;
        let mut description = Description::new(&family, teacher.queries.shape(), &teacher.prediction)?;
        description.output = Output::Predictions(teacher.task);
        let default = if self.recipe.recipe == Whose::Paper { Init::Random } else { Init::Auto };
        let own = native.filter(|network| network.is_like(&description));
        let wide = wide.filter(|network| network.is_like(&description));
        let weights = match self.network.init.unwrap_or(default) {
            Init::Random => None,
            Init::Auto => own.or(wide),
            Init::Base if native.is_none() => {
                return Err(Usage::error(
                    "--init base needs --base with a native model, whose weights can be taken",
                ));
            }
            Init::Base => wide.or(native),
        };
        Ok(Begin::Native { description, weights })
    }

    fn train(
        &self,
        all: &Coding<'_>,
        recipe: &train::Recipe,
        common: &Common,
        io: &mut Io,
    ) -> Result<Trained> {
        let of_data = |trained: Result<Trained, TrainError>| match trained {
            Err(TrainError::Hold(error)) => Err(error).context("--freeze"),
            other => other.with_context(|| self.data.to_string()),
        };
        let folder = self.output.join("run");
        let (epochs, timings) = (recipe.epochs, &self.machine.timings);
        match (self.training, &all.answers, &self.code) {
            (Training::Nothing, ..) => Ok(Trained::default()),
            (Training::Apart, AnswersPlan::Parity(starts), CodeKind::Systematic(code)) => {
                let watch = Watch::new(common, io, epochs, starts.len(), timings);
                let mut trained = Trained::default();
                for (j, start) in starts.iter().enumerate() {
                    // Each is trained as the only one: any of them may be all that arrives.
                    let own = single(code, j)?;
                    let folder = folder.join(format!("parity-{j}"));
                    let (parity, _) = watch.run(folder, &format!("parity {j}: "), |around| {
                        let answers = AnswersPlan::Parity(vec![start.clone()]);
                        let one = Coding { code: &own, answers, stream: j as u64 + 1, ..all.clone() };
                        of_data(one.train(recipe, around))
                    })?;
                    trained.parity.extend(parity.parity);
                }
                Ok(trained)
            }
            _ => {
                let watch = Watch::new(common, io, epochs, 1, timings);
                let (trained, _) = watch.run(folder, "", |around| of_data(all.train(recipe, around)))?;
                Ok(trained)
            }
        }
    }

    fn finish(
        &self,
        coding: &Coding<'_>,
        trained: Trained,
        teacher: &Teacher,
        recipe: &train::Recipe,
        io: &mut Io,
    ) -> Result<CodeScores> {
        let directory = self.output;
        fs::create_dir_all(directory).with_context(|| format!("{}: cannot create", directory.display()))?;
        let Machine { device, timings, .. } = self.machine;
        let save = |model: &Model, part: &str| {
            let name = format!("{part}.{}", model.extension());
            timings.measure(Phase::Write, || {
                model.save(&directory.join(&name))?;
                // Programs that cannot read this project's files of native networks take TorchScript.
                if let Model::Native(network) = model {
                    let script = directory.join(part).with_extension("pt");
                    network.export(&script, None).with_context(|| script.display().to_string())?;
                }
                anyhow::Ok(())
            })?;
            anyhow::Ok(name)
        };
        let part =
            |model: &Option<Model>, name: &str| model.as_ref().map(|model| save(model, name)).transpose();
        let own = part(&trained.deployed, "deployed")?;
        let (encoder, decoder) = (part(&trained.encoder, "encoder")?, part(&trained.decoder, "decoder")?);
        let mut parity = Vec::new();
        for (j, model) in trained.parity.iter().enumerate() {
            parity.push(save(model, &format!("parity-{j}"))?);
        }
        let scores = timings.measure_on(*device, Phase::Compute, || coding.score(trained, recipe))?;
        let deployed = match (own, &teacher.fixed) {
            (Some(name), _) => {
                let sha256 = train::sha256(&directory.join(&name))?;
                Some(Deployed { sha256, name, recorded: false, joint: true })
            }
            (None, fixed) => fixed.as_ref().map(|fixed| fixed.deployed.clone()),
        };
        let weights = match &self.code {
            CodeKind::Systematic(code) => (0..code.r()).map(|j| code.weights(j)).collect(),
            CodeKind::Interpolating(_) => Vec::new(),
        };
        let file = CodeFile {
            weights,
            query_shape: Some(teacher.queries.shape().to_vec()),
            prediction_shape: Some(teacher.prediction.clone()),
            input_name: teacher.choices.input.clone(),
            output_name: teacher.choices.output.clone(),
            output: teacher.task,
            runs_on: match self.runs_on {
                RunsOn::Parity => directory::RunsOn::Parity,
                RunsOn::Deployed => directory::RunsOn::Deployed,
            },
            parity,
            encoder,
            decoder,
            deployed,
            scores: Some(Scores {
                available: scores.available,
                degraded: scores.degraded,
                agreement: scores.agreement,
                available_determination: scores.true_determinations[0],
                degraded_determination: scores.true_determinations[1],
                determination: scores.determination,
                absolute_error: scores.absolute_error,
                cosine: scores.cosine,
                recall: scores.recall,
                overlap: scores.fit.map(|fit| fit.mean),
                n: scores.reconstructions,
            }),
            made_by: Some(io.made_by()),
            ..CodeFile::new(&self.spec)
        };
        file.save(directory)?;
        if self.recipe.resume || self.recipe.force {
            file.remove_other_parts(directory)?;
        }
        Ok(scores)
    }
}

/// A learned encoder or decoder at its start, with random weights.
fn coder<'a>(description: Description, learns: bool) -> Start<'a> {
    Start { begin: Begin::Native { description, weights: None }, held: Vec::new(), learns }
}

/// What the models that are trained are made of.
fn layers(coding: &Coding<'_>) -> Result<Layers> {
    match (&coding.deployed, &coding.answers) {
        (DeployedPlan::Joint(Joint { start, .. }), _) => Ok(start.layers()?),
        // All parity models begin as the same model.
        (_, AnswersPlan::Parity(starts)) => Ok(starts.first().map_or(Ok(Layers::Linear), Start::layers)?),
        (_, AnswersPlan::Deployed) => Ok(Layers::Linear),
    }
}

/// Batch normalisation in the training of parity models.
fn norm(options: &ParityNetwork) -> BatchNorm {
    match options.bn {
        Norm::Train => BatchNorm::Train,
        Norm::Frozen => BatchNorm::Frozen,
    }
}

/// Refuses options of parity models that do not fit each other.
pub(crate) fn check_network(options: &ParityNetwork) -> Result<()> {
    let ParityNetwork { model, hidden, parity_width, init, .. } = options;
    match model {
        Some(ParityModel::File(_)) if hidden.is_some() || *parity_width > 1 => Err(Usage::error(
            "--hidden, --parity-width: found --model with the file of a model, expected --model mlp",
        )),
        Some(ParityModel::File(_)) if *init == Some(Init::Base) => Err(Usage::error(
            "--init base: found --model with the file of a model, which has its own weights; expected a kind of \
             network",
        )),
        _ => family_of(options, None).map(drop),
    }
}

/// The network of a parity model, as the options and the deployed model say.
fn family_of(options: &ParityNetwork, deployed: Option<&Network>) -> Result<Family> {
    let deployed = deployed.and_then(|network| network.description().family());
    let kind = match &options.model {
        Some(ParityModel::Kind(kind)) => Some(*kind),
        Some(ParityModel::File(_)) | None => None,
    };
    family::choose(kind, options.hidden.as_deref(), deployed, options.parity_width)
}

/// Refuses to write over a training that is there already, unless the options say so. `finished` is what
/// it wrote at its end, `run` the folder of its checkpoints; one that `trains` nothing has none.
pub(crate) fn check_free(recipe: &Recipe, finished: &Path, run: &Path, trains: bool) -> Result<()> {
    let checkpoint = run.join("checkpoint.safetensors");
    let found = [finished, &checkpoint].into_iter().find(|path| path.exists());
    match found {
        Some(found) if !recipe.force && !recipe.resume => bail!(
            "{}: found a training: --resume goes on with it, --force begins anew in its place",
            found.display()
        ),
        Some(_) if !recipe.force && trains && !checkpoint.exists() => bail!(
            "{}: found no checkpoint of it to go on from, expected {}: --force begins anew in its place",
            finished.display(),
            checkpoint.display()
        ),
        _ => Ok(()),
    }
}

/// Removes a file that is not to outlive what made it.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot replace", path.display()))
        }
        _ => Ok(()),
    }
}

fn scored(scores: &CodeScores) -> String {
    let fit = |of: fn(train::Fit) -> f64| scores.fit.map(of);
    let values = [
        ("A_a", scores.available),
        ("A_d", scores.degraded),
        ("agreement", scores.agreement),
        ("mean IoU", fit(|fit| fit.mean)),
        ("IoU >= 0.5", fit(|fit| fit.half)),
        ("IoU >= 0.75", fit(|fit| fit.three_quarters)),
        ("R2_a", scores.true_determinations[0]),
        ("R2_d", scores.true_determinations[1]),
        ("R2", scores.determination),
        ("MAE", scores.absolute_error),
        ("cosine", scores.cosine),
        ("recall@10", scores.recall),
    ];
    let known = values.iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value:.4}, ")));
    format!("{}{} reconstructions scored", known.collect::<String>(), scores.reconstructions)
}
