//! Reads a configuration into a list of runs. Only `train_base_model` has a default.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use parm::Task;
use parm_cli::tools::train::{Architecture, DecoderKind, EncoderKind, LossKind};
use serde::Deserialize;

use crate::train::plan::Fixed;
use crate::train::recipe::losses;

use super::known::{DATA_SETS, DECODERS, ENCODERS, Files, Known, LOSSES, MODELS, find};

/// The most queries of a group, as for -k.
const MAX_K: u32 = 4096;

/// A configuration file.
#[derive(Deserialize)]
// The keys are those of the reference implementation.
#[allow(clippy::struct_excessive_bools)]
#[serde(deny_unknown_fields, expecting = "an object with the keys of a configuration")]
struct Written {
    num_epoch: u32,
    k_vals: Vec<u32>,
    enc_dec_types: Vec<[String; 2]>,
    datasets: Vec<String>,
    models: Vec<String>,
    losses: Vec<String>,
    train_encoder: bool,
    train_parity_model: bool,
    train_decoder: bool,
    /// This key and the next are not the reference implementation's.
    #[serde(default)]
    train_base_model: bool,
    /// What the models predict, if it is not what the data set has.
    #[serde(default)]
    task: Option<Task>,
}

/// The sweep of a configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) runs: Vec<Run>,
    /// Whether missing deployed models are trained first.
    pub(crate) train_base: bool,
}

/// One run: a combination of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) data_set: Known<Files>,
    pub(crate) task: Task,
    pub(crate) model: Known<Architecture>,
    pub(crate) k: u32,
    pub(crate) loss: Known<LossKind>,
    pub(crate) encoder: Known<EncoderKind>,
    pub(crate) decoder: Known<DecoderKind>,
    /// Whether parity models are trained; otherwise the deployed model answers parity queries.
    pub(crate) parity: bool,
    /// Coders that are networks but are not trained.
    pub(crate) fixed: Fixed,
    pub(crate) epochs: u32,
}

impl Run {
    /// Its folder in the output folder, named as in the reference implementation.
    pub(crate) fn folder(&self) -> PathBuf {
        let k = format!("k{}", self.k);
        let parts =
            [self.data_set.name, self.model.name, &k, self.loss.name, self.encoder.name, self.decoder.name];
        parts.iter().collect()
    }

    /// Its readable name.
    pub(crate) fn name(&self) -> String {
        let Self { data_set, model, k, loss, encoder, decoder, .. } = self;
        format!("{}-{}-k{k}-{}-{}-{}", data_set.short, model.short, encoder.short, decoder.short, loss.short)
    }
}

impl Config {
    /// The runs of a configuration, in the order of the reference implementation.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let written: Written = serde_json::from_str(text)?;
        ensure!(written.num_epoch > 0, "num_epoch: found 0, expected at least 1");
        let lists = [
            ("k_vals", written.k_vals.len()),
            ("enc_dec_types", written.enc_dec_types.len()),
            ("datasets", written.datasets.len()),
            ("models", written.models.len()),
            ("losses", written.losses.len()),
        ];
        if let Some((key, _)) = lists.iter().find(|(_, len)| *len == 0) {
            bail!("{key}: found an empty list, expected at least one value");
        }
        let mut runs: Vec<Run> = Vec::new();
        for data_set in &written.datasets {
            for model in &written.models {
                for &k in &written.k_vals {
                    for loss in &written.losses {
                        for coders in &written.enc_dec_types {
                            let run = written.run(data_set, model, k, loss, coders)?;
                            let name = run.name();
                            ensure!(
                                runs.iter().all(|other| other.name() != name),
                                "found the run {name} twice, expected each combination once"
                            );
                            runs.push(run);
                        }
                    }
                }
            }
        }
        Ok(Self { runs, train_base: written.train_base_model })
    }
}

impl Written {
    fn run(&self, data_set: &str, model: &str, k: u32, loss: &str, coders: &[String; 2]) -> Result<Run> {
        let [encoder, decoder] = coders;
        let known = find("datasets", data_set, DATA_SETS)?;
        let task = self.task.unwrap_or(known.meaning.task);
        ensure!(
            task == known.meaning.task || matches!(task, Task::Regress | Task::Embed),
            "task: found '{task}' for {data_set}, expected {}, regress or embed",
            known.meaning.task
        );
        let mut run = Run {
            data_set: known,
            task,
            model: find("models", model, MODELS)?,
            k,
            loss: find("losses", loss, LOSSES)?,
            encoder: find("enc_dec_types", encoder, ENCODERS)?,
            decoder: find("enc_dec_types", decoder, DECODERS)?,
            parity: self.train_parity_model,
            fixed: Fixed::default(),
            epochs: self.num_epoch,
        };
        ensure!((1..=MAX_K).contains(&k), "k_vals: found {k}, expected 1 to {MAX_K}");
        let networks = [
            matches!(run.encoder.meaning, EncoderKind::Mlp | EncoderKind::Conv),
            run.decoder.meaning == DecoderKind::Mlp,
        ];
        run.fixed = Fixed {
            encoder: fixed("train_encoder", self.train_encoder, encoder, networks[0])?,
            decoder: fixed("train_decoder", self.train_decoder, decoder, networks[1])?,
        };
        let learns = self.train_encoder || self.train_decoder || self.train_parity_model;
        ensure!(
            learns || networks == [false; 2],
            "found nothing to train with {encoder} and {decoder}, expected one of train_encoder, \
             train_parity_model and train_decoder to be true"
        );
        if !losses(task).contains(&run.loss.meaning) {
            let fits = LOSSES.iter().filter(|loss| losses(task).contains(&loss.meaning));
            let names: Vec<&str> = fits.map(|loss| loss.name).filter(|name| name.contains('.')).collect();
            bail!(
                "losses: found '{loss}' for the task {task} of {data_set}, expected {}",
                names.join(" or ")
            );
        }
        Ok(run)
    }
}

/// True if a coder keeps random weights. Only networks have weights and can be trained.
fn fixed(key: &str, learns: bool, coder: &str, network: bool) -> Result<bool> {
    ensure!(network || !learns, "{key}: found true with {coder}, which has nothing to train; expected false");
    Ok(network && !learns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MNIST: &str = r#"{"num_epoch": 500, "k_vals": [2, 3],
        "enc_dec_types": [["coders.summation.AdditionEncoder", "coders.summation.SubtractionDecoder"],
                          ["coders.image.ConcatenationEncoder", "coders.summation.SubtractionDecoder"]],
        "datasets": ["mnist"], "models": ["base-mlp", "resnet18"], "losses": ["torch.nn.MSELoss"],
        "train_encoder": false, "train_parity_model": true, "train_decoder": false}"#;

    fn with(from: &str, to: &str) -> String {
        assert!(MNIST.contains(from), "{from}");
        Config::parse(&MNIST.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn all_combinations_are_runs_with_folders_and_names() {
        let config = Config::parse(MNIST).unwrap();
        let names: Vec<_> = config.runs.iter().map(Run::name).collect();
        let expected = ["base-mlp-k2", "base-mlp-k3", "resnet18-k2", "resnet18-k3"]
            .into_iter()
            .flat_map(|run| ["sum", "concat"].map(|code| format!("mnist-{run}-{code}-linear-mse")));
        assert_eq!(names, expected.collect::<Vec<_>>());
        let folder = "mnist/base-mlp/k2/torch.nn.MSELoss/coders.summation.AdditionEncoder/\
                      coders.summation.SubtractionDecoder";
        assert_eq!(config.runs[0].folder(), PathBuf::from(folder));
        assert!(config.runs.iter().all(|run| run.parity && run.epochs == 500) && !config.train_base);
    }

    #[test]
    fn the_shipped_configurations_cover_every_data_set_model_and_coder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/experiments/configs");
        let mut runs = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            // The configurations of the simulations are in subfolders.
            if path.is_dir() {
                continue;
            }
            let config = Config::parse(&std::fs::read_to_string(&path).unwrap());
            runs.extend(config.unwrap_or_else(|error| panic!("{}: {error}", path.display())).runs);
        }
        let used = |name: &str, of: fn(&Run) -> &str| {
            assert!(runs.iter().any(|run| of(run) == name), "no run of {name}");
        };
        for known in DATA_SETS {
            used(known.short, |run| run.data_set.short);
        }
        for known in MODELS {
            used(known.short, |run| run.model.short);
        }
        for known in ENCODERS {
            used(known.short, |run| run.encoder.short);
        }
        for known in DECODERS {
            used(known.short, |run| run.decoder.short);
        }
        for k in [2, 3, 4] {
            for set in DATA_SETS {
                assert!(runs.iter().any(|run| run.k == k && run.data_set == *set), "{} k = {k}", set.name);
            }
        }
    }

    #[test]
    fn learned_coders_and_short_names_are_known() {
        let learned = MNIST
            .replace("summation.AdditionEncoder", "mlp.MLPEncoder")
            .replace("image.ConcatenationEncoder", "conv.ConvEncoder")
            .replace("summation.SubtractionDecoder", "mlp.MLPDecoder")
            .replace(r#"coder": false"#, r#"coder": true"#)
            .replace(r#"model": true"#, r#"model": false, "train_base_model": true"#);
        let config = Config::parse(&learned).unwrap();
        assert_eq!(config.runs[1].name(), "mnist-base-mlp-k2-conv-mlp-mse");
        assert!(config.train_base && config.runs.iter().all(|run| !run.parity));
        let short = MNIST
            .replace("torch.nn.MSELoss", "mse")
            .replace("coders.summation.AdditionEncoder", "add")
            .replace("coders.summation.SubtractionDecoder", "sub");
        let config = Config::parse(&short).unwrap();
        assert_eq!(config.runs[0].folder(), PathBuf::from("mnist/base-mlp/k2/mse/add/sub"));
        assert_eq!(config.runs[0].name(), "mnist-base-mlp-k2-sum-linear-mse");
    }

    #[test]
    fn networks_that_do_not_learn_keep_their_weights_unless_nothing_learns() {
        let mlps = MNIST
            .replace("summation.AdditionEncoder", "mlp.MLPEncoder")
            .replace("summation.SubtractionDecoder", "mlp.MLPDecoder");
        let fixed = |text: &str| Config::parse(text).map(|config| config.runs[0].fixed);
        assert_eq!(fixed(&mlps).unwrap(), Fixed { encoder: true, decoder: true });
        let decoder = mlps.replace(r#"decoder": false"#, r#"decoder": true"#);
        assert_eq!(fixed(&decoder).unwrap(), Fixed { encoder: true, decoder: false });
        assert_eq!(fixed(MNIST).unwrap(), Fixed::default());
        let nothing = fixed(&mlps.replace(r#"model": true"#, r#"model": false"#)).unwrap_err().to_string();
        let expected = "found nothing to train with coders.mlp.MLPEncoder and coders.mlp.MLPDecoder";
        assert!(nothing.starts_with(expected), "{nothing}");
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for (from, to, message) in [
            ("500", "0", "num_epoch: found 0, expected at least 1"),
            ("500", "-1", "invalid value: integer `-1`, expected u32"),
            ("[2, 3]", "[]", "k_vals: found an empty list"),
            ("[2, 3]", "[2, 0]", "k_vals: found 0, expected 1 to 4096"),
            ("[2, 3]", "[2, 2]", "found the run mnist-base-mlp-k2-sum-linear-mse twice"),
            (r#""losses": ["torch.nn.MSELoss"]"#, r#""losses": ["mse", "torch.nn.MSELoss"]"#, "twice"),
            (
                "torch.nn.MSELoss",
                "torch.nn.L1Loss",
                "losses: found 'torch.nn.L1Loss', expected one of torch.nn.MSELoss",
            ),
            (
                r#""mnist""#,
                r#""../mnist""#,
                "datasets: found '../mnist', expected one of mnist, fashion-mnist",
            ),
            ("base-mlp", "logistic", "models: found 'logistic', expected one of base-mlp, resnet18"),
            (
                "image.Concat",
                "image.Tile",
                "enc_dec_types: found 'coders.image.TileenationEncoder', expected one of",
            ),
            (
                "SubtractionDecoder",
                "Decoder",
                "enc_dec_types: found 'coders.summation.Decoder', expected one of",
            ),
            ("num_epoch", "epochs", "unknown field `epochs`, expected one of `num_epoch`"),
            (r#""train_encoder": false,"#, "", "missing field `train_encoder`"),
            (
                r#""train_encoder": false"#,
                r#""train_encoder": true"#,
                "train_encoder: found true with coders.summation.AdditionEncoder, which has nothing to train; expected false",
            ),
            (r#""train_decoder": false"#, r#""train_decoder": true"#, "train_decoder: found true with"),
            (
                r#"["mnist"], "models": ["base-mlp", "resnet18"], "losses": ["torch.nn.MSELoss"]"#,
                r#"["cub-localization"], "models": ["resnet18"], "losses": ["loss.kldiv.KLDivLoss"]"#,
                "losses: found 'loss.kldiv.KLDivLoss' for the task boxes of cub-localization, expected \
                 torch.nn.MSELoss or torch.nn.SmoothL1Loss",
            ),
            (
                r#""losses": ["torch.nn.MSELoss"]"#,
                r#""task": "embed", "losses": ["loss.kldiv.KLDivLoss"]"#,
                "for the task embed of mnist, expected torch.nn.MSELoss or torch.nn.SmoothL1Loss or \
                 torch.nn.CosineEmbeddingLoss",
            ),
            (
                r#""train_encoder": false"#,
                r#""train_encoder": false, "task": "boxes""#,
                "task: found 'boxes' for mnist, expected classify, regress or embed",
            ),
            (
                r#""train_encoder": false"#,
                r#""train_encoder": false, "task": "logits""#,
                "unknown variant `logits`, expected one of `classify`, `regress`, `embed`, `boxes`",
            ),
            ("{", "[", "expected"),
            (MNIST, "[1]", "expected an object with the keys"),
            (MNIST, "7", "expected an object with the keys of a configuration"),
        ] {
            let found = with(from, to);
            assert!(found.contains(message), "{found}\n{message}");
        }
    }
}
