//! The name of an activation: what the command line reads, model files say, and libtorch computes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What stands between the layers of an MLP, as PyTorch computes it by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(x, 0)
    #[default]
    Relu,
    /// x·Φ(x), Φ being the distribution function of N(0, 1)
    Gelu,
    /// tanh(x)
    Tanh,
    /// 1/(1 + e⁻ˣ)
    Sigmoid,
    /// x/(1 + e⁻ˣ), also called swish
    Silu,
    /// x, but 0.01·x below 0
    LeakyRelu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Relu, Self::Gelu, Self::Tanh, Self::Sigmoid, Self::Silu, Self::LeakyRelu];

    /// The name, as it is read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Gelu => "gelu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Silu => "silu",
            Self::LeakyRelu => "leaky-relu",
        }
    }

    /// Whether it is ReLU, which files of version 0.1.0 do not name.
    #[must_use]
    pub fn is_relu(&self) -> bool {
        *self == Self::Relu
    }
}

impl FromStr for Activation {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|activation| activation.name() == name);
        found.ok_or("expected relu, gelu, tanh, sigmoid, silu or leaky-relu")
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Activation;

    #[test]
    fn names_are_read_and_written_the_same_in_files_and_options() {
        for activation in Activation::ALL {
            assert_eq!(activation.name().parse(), Ok(activation));
            let json = serde_json::to_string(&activation).unwrap();
            assert_eq!(json, format!("\"{activation}\""));
            assert_eq!(serde_json::from_str::<Activation>(&json).unwrap(), activation);
            let listed = "".parse::<Activation>().unwrap_err();
            assert!(listed.contains(activation.name()), "{listed}");
        }
        assert!("GELU".parse::<Activation>().is_err());
    }
}
