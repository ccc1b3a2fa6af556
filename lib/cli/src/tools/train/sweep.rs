//! `parm-train sweep`: the runs of a configuration.

use std::path::PathBuf;

use clap::Args;

use super::Recipe;
use crate::options::{Compute, ReadOptions};

/// `parm-train sweep`
#[derive(Args, Clone, Debug)]
// Configurations are those of the papers.
#[command(mut_arg("recipe", |recipe| recipe.default_value("paper")))]
pub struct Sweep {
    /// The configuration: JSON with the keys of the reference implementation, or with those that SWEEPS describes
    #[arg(value_name = "CONFIG.json")]
    pub config: PathBuf,

    /// Where to write; each run goes to `SAVE_DIR/DATA_SET/MODEL/kK/LOSS/ENCODER/DECODER`, with seeds to seed-S there
    ///
    /// That folder is a code directory with the scores, test.json, beside code.json. A link in `SAVE_DIR`
    /// has a descriptive name, such as mnist-base-mlp-k2-sum-linear-mse.
    #[arg(value_name = "SAVE_DIR")]
    pub save_dir: PathBuf,

    /// The data sets: a folder for each, with the folders train and test, as parm-data writes them
    #[arg(long, value_name = "DIR", default_value = "data", help_heading = "Streams")]
    pub data_dir: PathBuf,

    /// The deployed models, `DIR/DATA_SET/MODEL/model.safetensors` or model.pt [default: SAVE_DIR/base]
    ///
    /// If "`train_base_model`" is true in the configuration, missing models are trained first.
    #[arg(long, value_name = "DIR", help_heading = "Streams")]
    pub base_dir: Option<PathBuf>,

    /// Start with the run of this folder or checkpoint, and continue it as with --resume
    ///
    /// Earlier runs of the configuration are left out.
    #[arg(long, value_name = "RUN", help_heading = "Runs")]
    pub continue_from: Option<PathBuf>,

    /// Only score the existing runs again, without training
    #[arg(long, conflicts_with_all = ["resume", "continue_from"], help_heading = "Runs")]
    pub only_test: bool,

    /// Write a line of JSON for each run instead of a table
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub recipe: Recipe,

    #[command(flatten)]
    pub compute: Compute,

    #[command(flatten)]
    pub read: ReadOptions,
}
