//! Assignment of a file's tensors to a model's tensors, by name and shape.

use crate::error::format_names;
use crate::{Pattern, Tensor, Weights, WeightsError};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Options of [`Weights::assign`].
#[derive(Debug, Clone, Default)]
pub struct AssignOptions {
    /// Patterns of the tensors of the model that keep their own values, such as a head for other classes.
    ///
    /// These tensors keep their values even if the file has a tensor of the same name and shape, so that the result
    /// does not depend on whether two data sets have the same number of classes.
    pub replace: Vec<Pattern>,
}

/// Result of matching a model's tensors with the tensors of a file.
///
/// `found`, `replaced` and `missing` are in the model's order; `unused` is in the file's order.
#[derive(Debug, Clone)]
pub struct Assignment<'a> {
    /// Tensors of the file, by name, that match a tensor of the model in name and shape.
    pub found: Vec<(&'a str, &'a Tensor)>,
    /// Names in the model that match a pattern of [`AssignOptions::replace`].
    pub replaced: Vec<String>,
    /// Names in the model that the file lacks.
    pub missing: Vec<String>,
    /// Names of float tensors in the file that the model lacks. Integer tensors are not listed, because every PyTorch
    /// batch norm has a counter.
    pub unused: Vec<&'a str>,
    source: PathBuf,
    hint: &'static str,
}

impl Weights {
    /// Matches the model's tensors, given by name and shape in `model_tensors`, with the tensors of the file.
    ///
    /// Missing tensors are not an error here; see [`Assignment::complete`].
    ///
    /// # Errors
    /// Returns [`WeightsError::Mismatch`] if a tensor has different shapes in the file and in the model, and
    /// [`WeightsError::DType`] if a tensor in the file holds integers. Tensors that match a pattern of
    /// `options.replace` are not checked. Returns [`WeightsError::Unmatched`] if a pattern of `options.replace`
    /// matches no tensor of the model.
    pub fn assign(
        &self,
        model_tensors: &[(String, Vec<usize>)],
        options: &AssignOptions,
    ) -> Result<Assignment<'_>, WeightsError> {
        let names: Vec<&str> = model_tensors.iter().map(|(name, _)| name.as_str()).collect();
        Pattern::check_all(&options.replace, &names)?;
        let source = self.source().unwrap_or(Path::new("(weights in memory)")).to_owned();
        let mut assignment = Assignment {
            found: Vec::new(),
            replaced: Vec::new(),
            missing: Vec::new(),
            unused: Vec::new(),
            source,
            hint: "",
        };
        for (name, shape) in model_tensors {
            if options.replace.iter().any(|pattern| pattern.matches(name)) {
                assignment.replaced.push(name.clone());
                continue;
            }
            match self.get_entry(name) {
                Some((name, tensor)) if tensor.shape() == shape => assignment.found.push((name, tensor)),
                Some((_, tensor)) => {
                    return Err(WeightsError::Mismatch {
                        path: assignment.source,
                        tensor: name.clone(),
                        found: tensor.shape().to_vec(),
                        expected: shape.clone(),
                    });
                }
                None if self.is_integer_tensor(name) => {
                    return Err(WeightsError::DType {
                        path: assignment.source,
                        tensor: name.clone(),
                        dtype: "an integer tensor".to_owned(),
                        expected: "the model needs floats",
                    });
                }
                None => assignment.missing.push(name.clone()),
            }
        }
        let known: HashSet<&str> = names.into_iter().collect();
        assignment.unused = self.iter().map(|(name, _)| name).filter(|name| !known.contains(name)).collect();
        if self.all_start_with("module.") {
            assignment.hint = "; all names in the file start with `module.`, which must be stripped";
        }
        Ok(assignment)
    }
}

impl Assignment<'_> {
    /// Checks that [`missing`](Self::missing) is empty.
    ///
    /// # Errors
    /// Returns [`WeightsError::Missing`] if the file lacks a tensor that the model needs. The error lists the missing
    /// names, and the unused names in the file.
    pub fn complete(&self) -> Result<(), WeightsError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let unused = match self.unused.is_empty() {
            true => String::new(),
            false => format!("; unused names in the file: {}", format_names(&self.unused)),
        };
        let hint = format!("{unused}{}", self.hint);
        Err(WeightsError::Missing { path: self.source.clone(), missing: self.missing.clone(), hint })
    }
}
