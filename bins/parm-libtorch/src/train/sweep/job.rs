//! One run of a sweep: its files, its options, its data, and the training.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use parm::codes::CodeSpec;
use parm::codes::directory::{CodeDirError, CodeFile};
use parm::{LinearCode, Task};
use parm_cli::options::{Common, ModelOptions, TaskOption, TimingsOption};
use parm_cli::output::{Compression, Target};
use parm_cli::tools::train::{
    Architecture, Base, DecoderKind, EncoderKind, Norm, Objective, ParityModel, ParityNetwork, Recipe,
    RunsOn, Share, Sweep, Teaching, Whose,
};
use parm_cli::{Input, Io};
use parm_torch::train;
use serde_json::json;

use super::config::Run;
use super::known::Source;
use super::report::Tested;
use crate::train::Machine;
use crate::train::base;
use crate::train::data::Teacher;
use crate::train::plan::{Plan, Training, remove};

/// The scores on the test rows, beside code.json.
const TEST: &str = "test.json";

/// A run with its files.
pub(super) struct Job<'a> {
    run: &'a Run,
    options: &'a Sweep,
    /// The code directory.
    pub(super) folder: PathBuf,
    /// The deployed model.
    base: PathBuf,
    recipe: Recipe,
}

/// The data of the runs of one data set and model.
pub(super) struct Taught {
    base: PathBuf,
    data_set: String,
    learnt: Teacher,
    test: Teacher,
}

impl<'a> Job<'a> {
    pub(super) fn new(run: &'a Run, options: &'a Sweep) -> Self {
        let bases = options.base_dir.clone().unwrap_or_else(|| options.save_dir.join("base"));
        let bases = bases.join(&run.data_set.name).join(&run.model.name);
        let [native, script] = ["model.safetensors", "model.pt"].map(|name| bases.join(name));
        let base = match &run.model.model {
            ParityModel::File(file) => file.clone(),
            ParityModel::Kind(_) if script.exists() && !native.exists() => script,
            ParityModel::Kind(_) => native,
        };
        let mut recipe = options.recipe.clone();
        recipe.epochs = recipe.epochs.or(Some(run.epochs));
        recipe.seed = run.seed.unwrap_or(recipe.seed);
        recipe.resume |= options.continue_from.is_some();
        if recipe.augment.is_empty() && recipe.recipe == Whose::Paper {
            recipe.augment = run.data_set.augment().into();
        }
        Self { run, options, folder: options.save_dir.join(run.folder()), base, recipe }
    }

    /// Checks that all files of the run exist.
    pub(super) fn check(&self, train_base: bool) -> Result<()> {
        for part in ["train", "test"] {
            let (rows, truth) = self.files(part);
            for file in [Some(rows), truth].into_iter().flatten() {
                let hint = match self.run.data_set.source {
                    Source::Known(_) => ", written by parm-data",
                    Source::Own { .. } => "",
                };
                ensure!(
                    file.exists(),
                    "{}: not found, expected the data set {} there{hint}",
                    file.display(),
                    self.run.data_set.name
                );
            }
        }
        if let ParityModel::File(file) = &self.run.model.model {
            ensure!(file.exists(), "{}: not found, expected a deployed model there", file.display());
        }
        if !self.base.exists() && self.run.task == Task::Embed {
            bail!(
                "{}: not found, expected the deployed model there: embeddings are trained elsewhere",
                self.base.display()
            );
        }
        if !self.base.exists() && (self.options.only_test || !train_base) {
            let Base { data, labels, boxes, values, output, .. } = self.base_options();
            let truth = [("--labels", labels), ("--boxes", boxes), ("--values", values)];
            let truth = truth.into_iter().find_map(|(flag, file)| Some(format!("{flag} {}", file?)));
            let truth = truth.unwrap_or_default();
            bail!(
                "{}: not found, expected the deployed model there: make it by parm-train base --model {} \
                 --data {data} {truth} -o {}, or write \"train_base_model\": true in the configuration",
                self.base.display(),
                self.run.model.short.trim_start_matches("base-"),
                output.display(),
            );
        }
        Ok(())
    }

    /// The files of a split of the data set: its rows and, if the task has one, its truth.
    fn files(&self, part: &str) -> (PathBuf, Option<PathBuf>) {
        let files = match &self.run.data_set.source {
            Source::Known(files) => files,
            Source::Own { train, test } => {
                let split = if part == "train" { train } else { test };
                return (split.data.clone(), split.of(self.run.task).map(Path::to_path_buf));
            }
        };
        let folder = self.options.data_dir.join(&self.run.data_set.name).join(part);
        let truth = match self.run.task {
            Task::Classify => Some("labels.npy"),
            Task::Regress => Some("values.npy"),
            Task::Boxes => Some("boxes.npy"),
            Task::Embed => None,
        };
        (folder.join(files.rows), truth.map(|name| folder.join(name)))
    }

    /// The files of a split of the data set: its rows, then labels, boxes or values.
    fn inputs(&self, part: &str) -> (Input, [Option<Input>; 3]) {
        let (rows, truth) = self.files(part);
        let of = |task: Task| truth.clone().filter(|_| self.run.task == task).map(Input::Path);
        (Input::Path(rows), [Task::Classify, Task::Boxes, Task::Regress].map(of))
    }

    /// The options to train the deployed model, without those of codes.
    fn base_options(&self) -> Base {
        let (data, [labels, boxes, values]) = self.inputs("train");
        Base {
            timings: TimingsOption::default(),
            data,
            labels,
            boxes,
            values,
            task: self.task(),
            loss: None,
            model: match self.run.model.model {
                ParityModel::Kind(kind) => kind,
                // A file is there, and is not trained.
                ParityModel::File(_) => Architecture::Mlp,
            },
            hidden: None,
            output: self.base.clone(),
            recipe: Recipe {
                // One deployed model for all seeds.
                seed: self.options.recipe.seed,
                epochs: None,
                batch: None,
                lr: None,
                weight_decay: None,
                schedule: None,
                warm_up: None,
                clip: None,
                ema: None,
                ..self.recipe.clone()
            },
            compute: self.options.compute,
            read: self.options.read,
        }
    }

    fn task(&self) -> TaskOption {
        TaskOption { task: Some(self.run.task) }
    }

    /// The settings that must be equal to reuse an earlier run.
    fn settings(&self) -> Result<serde_json::Value> {
        let Recipe {
            recipe,
            epochs,
            batch,
            lr,
            weight_decay,
            schedule,
            warm_up,
            clip,
            ema,
            precision,
            validation,
            seed,
            patience,
            checkpoint_cycle: _,
            resume: _,
            force: _,
            augment,
        } = &self.recipe;
        let named = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
        let mut settings = json!({
            "deployed": train::sha256(&self.base)?,
            "train_parity_model": self.run.parity,
            "fixed_encoder": self.run.fixed.encoder,
            "fixed_decoder": self.run.fixed.decoder,
            "recipe": named(recipe),
            "epochs": epochs,
            "batch": batch,
            "lr": lr,
            "weight_decay": weight_decay,
            "schedule": schedule.as_ref().map(|schedule| named(schedule)),
            "precision": named(precision),
            // The format of version 0.1.0, which kept the last rows.
            "validation": match validation.share {
                Share::Rows(rows) => json!(rows as f64),
                Share::Fraction(fraction) => json!(fraction),
            },
            "seed": seed,
            "augment": named(augment),
        });
        // Left out by default, as in earlier versions.
        for (name, value) in [("warm_up", warm_up), ("clip", clip), ("ema", ema)] {
            if let Some(value) = value {
                settings[name] = json!(value);
            }
        }
        if let Some(epochs) = patience {
            settings["patience"] = json!(epochs);
        }
        if self.run.data_set.task().is_some_and(|task| task != self.run.task) {
            settings["task"] = json!(self.run.task);
        }
        if !validation.tail && *recipe != Whose::Paper {
            settings["validation_drawn"] = true.into();
        }
        Ok(settings)
    }

    /// The scores of this run, if it was done before and is reused.
    pub(super) fn done(&self) -> Result<Option<Tested>> {
        let path = self.folder.join(TEST);
        if self.options.only_test || !self.recipe.resume || !path.exists() || !self.base.exists() {
            return Ok(None);
        }
        match CodeFile::load(&self.folder) {
            Err(CodeDirError::Unfinished(_)) => return Ok(None),
            file => file?,
        };
        let tested: Tested = fs::read(&path)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(serde_json::from_slice(&text)?))
            .with_context(|| format!("{}: found no scores", path.display()))?;
        Ok((tested.settings == self.settings()?).then_some(tested))
    }

    /// Trains the code and scores it; or only scores it.
    pub(super) fn run(
        &self,
        taught: &Taught,
        machine: &Machine,
        common: &Common,
        io: &mut Io,
    ) -> Result<Tested> {
        let &Run { k, encoder, decoder, parity, fixed, loss, .. } = self.run;
        let weightless = matches!(encoder.meaning, EncoderKind::Sum | EncoderKind::Concat)
            && decoder.meaning == DecoderKind::Linear;
        let plan = Plan {
            spec: CodeSpec::new(encoder.meaning.code(), k as usize),
            code: LinearCode::sum(k as usize, 1)?.into(),
            joint: None,
            encoder: encoder.meaning,
            runs_on: if parity { RunsOn::Parity } else { RunsOn::Deployed },
            decoder: decoder.meaning,
            training: match (weightless, parity) {
                (true, true) => Training::Apart,
                (true, false) => Training::Nothing,
                (false, _) => Training::Together,
            },
            fixed,
            network: &ParityNetwork {
                // For a deployed model of a file they are of its kind.
                model: Some(self.run.model.model.clone())
                    .filter(|model| matches!(model, ParityModel::Kind(_))),
                hidden: None,
                parity_width: 1,
                init: None,
                freeze: Vec::new(),
                bn: Norm::Train,
            },
            objective: &Objective { loss: Some(loss.meaning), compare: None, temperature: 1.0 },
            recipe: &self.recipe,
            data: &self.inputs("train").0,
            output: &self.folder,
            machine,
        };
        let path = self.folder.join(TEST);
        if !self.options.only_test {
            remove(&path)?;
            plan.run(&taught.learnt, common, io)?;
        }
        let file = CodeFile::load(&self.folder)?;
        file.check_model(&self.folder, &self.base)?;
        let tested = Tested::new(self.run, &plan.test(&taught.test)?, self.settings()?);
        if !self.options.only_test {
            let mut output = Target::Path(path).create(io, Compression::ByName(3))?;
            serde_json::to_writer_pretty(&mut output, &tested)?;
            writeln!(output)?;
            output.commit()?;
            self.link()?;
        }
        Ok(tested)
    }

    /// Links the readable name of the run to its folder.
    fn link(&self) -> Result<()> {
        let link = self.options.save_dir.join(self.run.name());
        if link.is_symlink() {
            remove(&link)?;
        }
        symlink(self.run.folder(), &link).with_context(|| format!("{}: cannot link", link.display()))
    }
}

impl Taught {
    /// Reads the data of a run, and trains its deployed model if that is missing.
    pub(super) fn read(job: &Job<'_>, machine: &Machine, common: &Common, io: &mut Io) -> Result<Self> {
        if !job.base.exists() {
            let folder = job.base.parent().unwrap_or(Path::new(""));
            fs::create_dir_all(folder).with_context(|| format!("{}: cannot create", folder.display()))?;
            base::train(&job.base_options(), machine, common, io)?;
        }
        let mut read = |part| {
            let (data, [labels, boxes, values]) = job.inputs(part);
            let task = job.task();
            let model_options = ModelOptions::default();
            let base = Some(job.base.clone());
            let teaching = Teaching { base, model_options, targets: None, data, labels, boxes, values, task };
            Teacher::read(&teaching, job.options.read, false, machine, common, io)
        };
        let (learnt, test) = (read("train")?, read("test")?);
        Ok(Self { base: job.base.clone(), data_set: job.run.data_set.name.clone(), learnt, test })
    }

    pub(super) fn is_for(&self, job: &Job<'_>) -> bool {
        self.base == job.base && self.data_set == job.run.data_set.name
    }
}
