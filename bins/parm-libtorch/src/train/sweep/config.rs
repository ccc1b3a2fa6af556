//! Reads a configuration into a list of runs. Only `train_base_model` has a default.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use parm::Task;
use parm_cli::tools::train::{DecoderKind, EncoderKind, LossKind};
use serde::Deserialize;
use serde_json::Value;

use crate::train::plan::Fixed;
use crate::train::recipe::losses;

use super::known::{DataSet, Deployed, Known, LOSSES, coders, find};

/// The most queries of a group, as for -k.
const MAX_K: u32 = 4096;

/// A configuration file.
#[derive(Deserialize)]
// The keys are those of the reference implementation.
#[allow(clippy::struct_excessive_bools)]
#[serde(deny_unknown_fields, expecting = "an object with the keys of a configuration")]
struct Written {
    #[serde(alias = "epochs")]
    num_epoch: u32,
    #[serde(alias = "k")]
    k_vals: Vec<u32>,
    #[serde(alias = "coders")]
    enc_dec_types: Vec<Value>,
    datasets: Vec<Value>,
    models: Vec<Value>,
    losses: Vec<String>,
    /// By default, what is a network is trained.
    #[serde(default)]
    train_encoder: Option<bool>,
    /// By default, there are parity models unless the encoder is a network, as for parm-train coders.
    #[serde(default)]
    train_parity_model: Option<bool>,
    #[serde(default)]
    train_decoder: Option<bool>,
    /// This key and the next are not the reference implementation's.
    #[serde(default)]
    train_base_model: bool,
    /// What the models predict, if it is not what the data set has.
    #[serde(default)]
    task: Option<Task>,
    /// Each code is trained with each of these seeds; without them, with that of the options.
    #[serde(default)]
    seeds: Option<Vec<u64>>,
}

/// The sweep of a configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) runs: Vec<Run>,
    /// Whether missing deployed models are trained first.
    pub(crate) train_base: bool,
}

/// One run: a combination of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) data_set: DataSet,
    pub(crate) task: Task,
    pub(crate) model: Deployed,
    pub(crate) k: u32,
    pub(crate) loss: Known<LossKind>,
    pub(crate) encoder: Known<EncoderKind>,
    pub(crate) decoder: Known<DecoderKind>,
    /// Whether parity models are trained; otherwise the deployed model answers parity queries.
    pub(crate) parity: bool,
    /// Coders that are networks but are not trained.
    pub(crate) fixed: Fixed,
    pub(crate) epochs: u32,
    /// The seed of the code, if the configuration has seeds.
    pub(crate) seed: Option<u64>,
}

impl Run {
    /// Its folder in the output folder, named as in the reference implementation.
    pub(crate) fn folder(&self) -> PathBuf {
        let k = format!("k{}", self.k);
        let Self { data_set, model, loss, encoder, decoder, .. } = self;
        let seed = self.seed.map(|seed| format!("seed-{seed}"));
        let parts = [&data_set.name, &model.name, &k, loss.name, encoder.name, decoder.name];
        parts.into_iter().chain(seed.as_deref()).collect()
    }

    /// Its readable name.
    pub(crate) fn name(&self) -> String {
        let Self { data_set, model, k, loss, encoder, decoder, .. } = self;
        let seed = self.seed.map_or_else(String::new, |seed| format!("-s{seed}"));
        format!(
            "{}-{}-k{k}-{}-{}-{}{seed}",
            data_set.short, model.short, encoder.short, decoder.short, loss.short
        )
    }
}

impl Config {
    /// The runs of a configuration, in the order of the reference implementation. Paths in it are relative to this
    /// folder.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self> {
        let written: Written = serde_json::from_str(text)?;
        ensure!(written.num_epoch > 0, "num_epoch: found 0, expected at least 1");
        let lists = [
            ("k_vals", written.k_vals.len()),
            ("enc_dec_types", written.enc_dec_types.len()),
            ("datasets", written.datasets.len()),
            ("models", written.models.len()),
            ("losses", written.losses.len()),
            ("seeds", written.seeds.as_ref().map_or(1, Vec::len)),
        ];
        if let Some((key, _)) = lists.iter().find(|(_, len)| *len == 0) {
            bail!("{key}: found an empty list, expected at least one value");
        }
        let seeds =
            written.seeds.as_ref().map_or(vec![None], |seeds| seeds.iter().copied().map(Some).collect());
        let mut runs: Vec<Run> = Vec::new();
        for data_set in &written.datasets {
            let data_set = DataSet::parse(data_set, folder)?;
            for model in &written.models {
                let model = Deployed::parse(model, folder)?;
                for &k in &written.k_vals {
                    for loss in &written.losses {
                        for coders in &written.enc_dec_types {
                            for &seed in &seeds {
                                let run = written.run(&data_set, &model, k, loss, coders)?;
                                runs.push(Run { seed, ..run });
                            }
                        }
                    }
                }
            }
        }
        let mut names = HashSet::new();
        if let Some(run) = runs.iter().find(|run| !names.insert(run.name())) {
            bail!("found the run {} twice, expected each combination once", run.name());
        }
        Ok(Self { runs, train_base: written.train_base_model })
    }
}

impl Written {
    fn run(&self, data_set: &DataSet, model: &Deployed, k: u32, loss: &str, pair: &Value) -> Result<Run> {
        let (encoder, decoder) = coders(pair)?;
        let (name, own) = (&data_set.name, data_set.task());
        let task = self.task.or(own).with_context(|| {
            format!("datasets: {name}: found no labels, boxes or values, expected them or \"task\" in the configuration")
        })?;
        ensure!(
            own.is_none_or(|own| task == own) || matches!(task, Task::Regress | Task::Embed),
            "task: found '{task}' for {name}, expected {}, regress or embed",
            own.unwrap_or_default()
        );
        let networks = [
            matches!(encoder.meaning, EncoderKind::Mlp | EncoderKind::Conv),
            decoder.meaning == DecoderKind::Mlp,
        ];
        let parity = self.train_parity_model.unwrap_or(!networks[0]);
        ensure!((1..=MAX_K).contains(&k), "k_vals: found {k}, expected 1 to {MAX_K}");
        let fixed = Fixed {
            encoder: fixed("train_encoder", self.train_encoder, encoder.name, networks[0])?,
            decoder: fixed("train_decoder", self.train_decoder, decoder.name, networks[1])?,
        };
        let learns = parity || (networks[0] && !fixed.encoder) || (networks[1] && !fixed.decoder);
        ensure!(
            learns || networks == [false; 2],
            "found nothing to train with {} and {}, expected one of train_encoder, train_parity_model and \
             train_decoder to be true",
            encoder.name,
            decoder.name
        );
        let loss = find("losses", loss, LOSSES)?;
        if !losses(task).contains(&loss.meaning) {
            let fits = LOSSES.iter().filter(|loss| losses(task).contains(&loss.meaning));
            let names: Vec<&str> = fits.map(|loss| loss.name).filter(|name| name.contains('.')).collect();
            bail!(
                "losses: found '{}' for the task {task} of {name}, expected {}",
                loss.name,
                names.join(" or ")
            );
        }
        Ok(Run {
            data_set: data_set.clone(),
            task,
            model: model.clone(),
            k,
            loss,
            encoder,
            decoder,
            parity,
            fixed,
            epochs: self.num_epoch,
            seed: None,
        })
    }
}

/// True if a coder keeps random weights. Only networks have weights and can be trained.
fn fixed(key: &str, learns: Option<bool>, coder: &str, network: bool) -> Result<bool> {
    ensure!(
        network || learns != Some(true),
        "{key}: found true with {coder}, which has nothing to train; expected false"
    );
    Ok(network && learns == Some(false))
}

#[cfg(test)]
mod tests {
    use parm_cli::tools::train::ParityModel;

    use super::super::known::{DATA_SETS, DECODERS, ENCODERS, MODELS, Source};
    use super::*;

    const MNIST: &str = r#"{"num_epoch": 500, "k_vals": [2, 3],
        "enc_dec_types": [["coders.summation.AdditionEncoder", "coders.summation.SubtractionDecoder"],
                          ["coders.image.ConcatenationEncoder", "coders.summation.SubtractionDecoder"]],
        "datasets": ["mnist"], "models": ["base-mlp", "resnet18"], "losses": ["torch.nn.MSELoss"],
        "train_encoder": false, "train_parity_model": true, "train_decoder": false}"#;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("folder"))
    }

    fn with(from: &str, to: &str) -> String {
        assert!(MNIST.contains(from), "{from}");
        format!("{:#}", parse(&MNIST.replace(from, to)).unwrap_err())
    }

    #[test]
    fn all_combinations_are_runs_with_folders_and_names() {
        let config = parse(MNIST).unwrap();
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
            let config = parse(&std::fs::read_to_string(&path).unwrap());
            runs.extend(config.unwrap_or_else(|error| panic!("{}: {error}", path.display())).runs);
        }
        let used = |name: &str, of: fn(&Run) -> &str| {
            assert!(runs.iter().any(|run| of(run) == name), "no run of {name}");
        };
        for known in DATA_SETS {
            used(known.short, |run| &run.data_set.short);
        }
        for known in MODELS {
            used(known.short, |run| &run.model.short);
        }
        for known in ENCODERS {
            used(known.short, |run| run.encoder.short);
        }
        for known in DECODERS {
            used(known.short, |run| run.decoder.short);
        }
        for k in [2, 3, 4] {
            for set in DATA_SETS {
                assert!(
                    runs.iter().any(|run| run.k == k && run.data_set.name == set.name),
                    "{} k = {k}",
                    set.name
                );
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
        let config = parse(&learned).unwrap();
        assert_eq!(config.runs[1].name(), "mnist-base-mlp-k2-conv-mlp-mse");
        assert!(config.train_base && config.runs.iter().all(|run| !run.parity));
        let short = MNIST
            .replace("torch.nn.MSELoss", "mse")
            .replace("coders.summation.AdditionEncoder", "add")
            .replace("coders.summation.SubtractionDecoder", "sub");
        let config = parse(&short).unwrap();
        assert_eq!(config.runs[0].folder(), PathBuf::from("mnist/base-mlp/k2/mse/add/sub"));
        assert_eq!(config.runs[0].name(), "mnist-base-mlp-k2-sum-linear-mse");
    }

    #[test]
    fn seeds_own_files_and_the_names_of_options_are_known() {
        let text = r#"{"epochs": 3, "k": [2], "coders": ["sum", ["conv", "mlp"], ["mlp", "linear"]],
            "datasets": [{"name": "own", "train": {"data": "x.npy", "values": "v.npy"},
                          "test": {"data": "/y.npy", "values": "w.npy"}}],
            "models": ["mlp", "m/own.pt2", {"name": "other", "file": "m"}], "losses": ["smooth-l1"],
            "seeds": [7, 8]}"#;
        let Config { runs, train_base } = parse(text).unwrap();
        assert!(runs.len() == 18 && !train_base);
        let names: Vec<String> = runs.iter().map(Run::name).take(3).collect();
        let expected = ["sum-linear-smooth-l1-s7", "sum-linear-smooth-l1-s8", "conv-mlp-smooth-l1-s7"];
        assert_eq!(names, expected.map(|name| format!("own-mlp-k2-{name}")));
        assert_eq!(runs[6].folder(), PathBuf::from("own/own/k2/smooth-l1/sum/linear/seed-7"));
        let files = [6, 12].map(|at| runs[at].model.model.clone());
        assert_eq!(files, ["folder/m/own.pt2", "folder/m"].map(|file| ParityModel::File(file.into())));
        let Source::Own { train, test } = &runs[0].data_set.source else { panic!("{:?}", runs[0].data_set) };
        assert_eq!((&*train.data, &*test.data), (Path::new("folder/x.npy"), Path::new("/y.npy")));
        assert_eq!((train.of(Task::Regress), train.of(Task::Embed)), (Some(Path::new("folder/v.npy")), None));
        // What is a network learns, and its encoder asks the deployed model.
        assert!(runs.iter().all(|run| run.task == Task::Regress && run.fixed == Fixed::default()));
        assert_eq!([0, 2, 4].map(|at| runs[at].parity), [true, false, false]);
    }

    #[test]
    fn networks_that_do_not_learn_keep_their_weights_unless_nothing_learns() {
        let mlps = MNIST
            .replace("summation.AdditionEncoder", "mlp.MLPEncoder")
            .replace("summation.SubtractionDecoder", "mlp.MLPDecoder");
        let fixed = |text: &str| parse(text).map(|config| config.runs[0].fixed);
        assert_eq!(fixed(&mlps).unwrap(), Fixed { encoder: true, decoder: true });
        let decoder = mlps.replace(r#"decoder": false"#, r#"decoder": true"#);
        assert_eq!(fixed(&decoder).unwrap(), Fixed { encoder: true, decoder: false });
        assert_eq!(fixed(MNIST).unwrap(), Fixed::default());
        let nothing = fixed(&mlps.replace(r#"model": true"#, r#"model": false"#)).unwrap_err().to_string();
        let expected = "found nothing to train with coders.mlp.MLPEncoder and coders.mlp.MLPDecoder";
        assert!(nothing.starts_with(expected), "{nothing}");
    }

    #[test]
    fn seeds_and_files_that_cannot_be_are_refused() {
        for (from, to, message) in [
            (r#""num_epoch""#, r#""seeds": [], "num_epoch""#, "seeds: found an empty list"),
            (r#""num_epoch""#, r#""seeds": [1, 1], "num_epoch""#, "k2-sum-linear-mse-s1 twice"),
            (
                r#"["base-mlp", "resnet18"]"#,
                r#"[{"name": "a b", "file": "m.pt2"}]"#,
                "models: found the name 'a b', expected letters",
            ),
            (r#"["base-mlp", "resnet18"]"#, r#"[{"name": "m"}]"#, "models: missing field `file`"),
            (
                r#"["base-mlp", "resnet18"]"#,
                r#"["a/m.pt", "b/m.pt"]"#,
                "found the run mnist-m-k2-sum-linear-mse twice",
            ),
            (r#"["mnist"]"#, r#"[{"name": "own"}]"#, "datasets: missing field `train`"),
            (
                r#"["mnist"]"#,
                r#"[{"name": "own", "train": {"data": "x", "rows": "y"}, "test": {"data": "z"}}]"#,
                "datasets: unknown field `rows`, expected one of `data`, `labels`, `boxes`, `values`",
            ),
            (
                r#"["mnist"]"#,
                r#"[{"name": "own", "train": {"data": "x", "labels": "y"}, "test": {"data": "z"}}]"#,
                "datasets: own: found another truth for test than for train",
            ),
            (
                r#"["mnist"]"#,
                r#"[{"name": "own", "train": {"data": "x", "labels": "y", "values": "y"}, "test": {"data": "z"}}]"#,
                "datasets: own: found several of labels, boxes and values, expected one",
            ),
            (
                r#"["mnist"]"#,
                r#"[{"name": "own", "train": {"data": "x"}, "test": {"data": "z"}}]"#,
                "datasets: own: found no labels, boxes or values, expected them or \"task\"",
            ),
            (
                r#"["coders.summation.AdditionEncoder", "coders.summation.SubtractionDecoder"]"#,
                "7",
                "enc_dec_types: found 7, expected a name or a pair of names",
            ),
            (
                r#"["coders.summation.AdditionEncoder", "coders.summation.SubtractionDecoder"]"#,
                r#"["sum"]"#,
                "enc_dec_types: found [\"sum\"], expected a pair of names",
            ),
        ] {
            let found = with(from, to);
            assert!(found.contains(message), "{found}\n{message}");
        }
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
            ("num_epoch", "n_epochs", "unknown field `n_epochs`, expected one of `epochs`, `num_epoch`, `k`"),
            (r#""num_epoch": 500,"#, "", "missing field `num_epoch`"),
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
