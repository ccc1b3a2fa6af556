//! Models of a cluster file, and variants of them: policies side by side.

use std::path::Path;

use parm_config::{Config, ConfigError, Model};
use serde_json::{Map, Value};

/// A cluster file, or variants of it, that cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum VariantError {
    /// The file is not JSON.
    #[error("found no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no such model.
    #[error("models: found none with the name '{name}', expected one of: {}", expected.join(", "))]
    Model {
        /// The name.
        name: String,
        /// Those that it has.
        expected: Vec<String>,
    },
    /// It is not a configuration, or one that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The models of a cluster file by their names; or one for each variant: a model, the named one or the
/// first, with the variant's fields in place of its own. A variant without a name is called by what it
/// says. Paths are relative to `folder`.
///
/// # Errors
/// A text that is no configuration, one that cannot work, or a model that is not there.
pub fn variants(
    text: &str,
    folder: &Path,
    name: Option<&str>,
    variants: &[Map<String, Value>],
) -> Result<Vec<(String, Model)>, VariantError> {
    let mut config: Value = serde_json::from_str(text)?;
    let mut labels = Vec::new();
    // What is no configuration is told by its parser.
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
        // Versions tell models of one name apart, and none is the default one.
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
