//! Chooses the network to train, from the options and the deployed model.

use anyhow::Result;
use parm::Activation;
use parm_cli::Usage;
use parm_cli::tools::train::Architecture;
use parm_torch::Family;

/// The default widths of hidden layers, those of the papers.
const HIDDEN: [usize; 2] = [200, 100];

/// The largest width of a layer.
const WIDEST: usize = 1 << 24;

/// The network of these options; the deployed model gives the defaults.
pub(crate) fn choose(
    kind: Option<Architecture>,
    hidden: Option<&[u32]>,
    deployed: Option<Family>,
    times: u32,
) -> Result<Family> {
    // An MLP of other widths keeps the deployed model's activation.
    let activation = match &deployed {
        Some(Family::Mlp { activation, .. }) => *activation,
        _ => Activation::Relu,
    };
    let mlp = || Family::Mlp { hidden: HIDDEN.into(), activation };
    let family = match (kind, hidden) {
        (None, None) => deployed.unwrap_or_else(mlp),
        (None | Some(Architecture::Mlp), Some(hidden)) => {
            Family::Mlp { hidden: hidden.iter().map(|&width| width as usize).collect(), activation }
        }
        (Some(Architecture::Mlp), None) => {
            deployed.filter(|family| matches!(family, Family::Mlp { .. })).unwrap_or_else(mlp)
        }
        (Some(Architecture::Lenet5), _) => Family::Lenet5,
        (Some(Architecture::Vgg11), _) => Family::Vgg11,
        (Some(Architecture::Resnet18), _) => Family::Resnet18,
        (Some(Architecture::Resnet152), _) => Family::Resnet152,
    };
    match family {
        Family::Mlp { hidden, activation } => {
            Ok(Family::Mlp { hidden: widths(&hidden, times as usize)?, activation })
        }
        _ if hidden.is_some() => Err(no_mlp("--hidden")),
        _ if times > 1 => Err(no_mlp("--parity-width")),
        other => Ok(other),
    }
}

pub(crate) fn no_mlp(option: &str) -> anyhow::Error {
    Usage::error(format!("{option}: found a network without hidden widths, expected --model mlp"))
}

fn widths(hidden: &[usize], times: usize) -> Result<Vec<usize>> {
    if hidden.contains(&0) {
        return Err(Usage::error("--hidden: found a layer of width 0, expected widths above 0"));
    }
    let widths: Vec<usize> = hidden.iter().map(|width| width.saturating_mul(times)).collect();
    match widths.iter().find(|&&width| width > WIDEST) {
        Some(width) => {
            Err(Usage::error(format!("--hidden: found a layer of width {width}, expected at most {WIDEST}")))
        }
        None => Ok(widths),
    }
}
