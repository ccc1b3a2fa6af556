//! The models of a cluster file, and variants of them, to compare policies.

use std::path::Path;

use parm_config::{Config, ConfigError, Model};
use serde_json::{Map, Value};

/// A cluster file, or variants of it, that cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum VariantError {
    /// The file is not JSON.
    #[error("found no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// There is no model with this name.
    #[error("models: found none with the name '{name}', expected one of: {}", expected.join(", "))]
    Model {
        /// The name.
        name: String,
        /// The names of the models.
        expected: Vec<String>,
    },
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The models of a cluster file with their names. If there are variants, one model for each of them: the
/// model `name`, or else the first one, with the variant's fields in place of its own. A variant without a
/// name is named after its fields. Paths are relative to `folder`.
///
/// # Errors
/// An invalid configuration, or no model with this name.
pub fn variants(
    text: &str,
    folder: &Path,
    name: Option<&str>,
    variants: &[Map<String, Value>],
) -> Result<Vec<(String, Model)>, VariantError> {
    let mut config: Value = serde_json::from_str(text)?;
    let mut labels = Vec::new();
    // The parser below reports everything else that is not a configuration.
    if let Some(Value::Array(models)) = config.get_mut("models") {
        if let Some(name) = name {
            choose(models, name)?;
        }
        if let Some(Value::Object(base)) = models.first()
            && !variants.is_empty()
        {
            let base = base.clone();
            let vary = |variant: &Map<String, Value>| {
                Value::Object(base.clone().into_iter().chain(variant.clone()).collect())
            };
            *models = variants.iter().map(vary).collect();
            labels = variants.iter().map(label).collect();
        }
        // Variants have the same name; their versions must differ, and none may be the default.
        for (number, model) in models.iter_mut().enumerate() {
            if let Value::Object(model) = model {
                model.insert("version".to_owned(), number.to_string().into());
                model.remove("default");
            }
        }
    }
    let models = Config::parse(&config.to_string())?.relative_to(folder)?.models;
    labels.extend(models.iter().skip(labels.len()).map(|model| model.name.clone()));
    Ok(labels.into_iter().zip(models).collect())
}

fn choose(models: &mut Vec<Value>, name: &str) -> Result<(), VariantError> {
    let expected = models.iter().filter_map(|model| model["name"].as_str().map(str::to_owned)).collect();
    models.retain(|model| model["name"] == name);
    if models.is_empty() {
        return Err(VariantError::Model { name: name.to_owned(), expected });
    }
    Ok(())
}

fn label(variant: &Map<String, Value>) -> String {
    match variant.get("name") {
        Some(Value::String(name)) => name.clone(),
        _ => Value::Object(variant.clone()).to_string(),
    }
}
