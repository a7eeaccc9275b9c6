//! Which tensors of a file a model takes: by name, with the shape it wants.

use crate::error::listed;
use crate::{Pattern, Tensor, Weights, WeightsError};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How a model takes weights.
#[derive(Debug, Clone, Default)]
pub struct AssignOptions {
    /// Tensors of the model that keep their own values, whatever the file has under their names: its head, when the
    /// classes are others. They do so also where the shape would fit, so that what happens does not depend on whether two
    /// data sets have equally many classes.
    pub replace: Vec<Pattern>,
}

/// What became of each tensor of the model, and what of the file is left. Names are in the model's order, those of
/// `unused` in the file's.
#[derive(Debug, Clone)]
pub struct Assignment<'a> {
    /// Tensors of the file, with the shapes that the model wants.
    pub found: Vec<(&'a str, &'a Tensor)>,
    /// Names of the model that matched a pattern of [`AssignOptions::replace`].
    pub replaced: Vec<String>,
    /// Names of the model that the file lacks.
    pub missing: Vec<String>,
    /// Names of the file that the model lacks. Integers are not among them: every PyTorch batch norm has a counter.
    pub unused: Vec<&'a str>,
    source: PathBuf,
    hint: &'static str,
}

impl Weights {
    /// Matches the model's tensors, `wanted` with their shapes, with those of the file.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] if a tensor has another shape, [`WeightsError::DType`] if it is one of integers; neither
    /// where a pattern to replace matches. [`WeightsError::Unmatched`] for such a pattern that matches nothing.
    ///
    /// That tensors are missing is no error here: see [`Assignment::complete`].
    pub fn assign(
        &self,
        wanted: &[(String, Vec<usize>)],
        options: &AssignOptions,
    ) -> Result<Assignment<'_>, WeightsError> {
        let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
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
        for (name, shape) in wanted {
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
                        wanted: shape.clone(),
                    });
                }
                None if self.has_integers(name) => {
                    return Err(WeightsError::DType {
                        path: assignment.source,
                        tensor: name.clone(),
                        dtype: "integers".to_owned(),
                        wanted: "the model wants floats",
                    });
                }
                None => assignment.missing.push(name.clone()),
            }
        }
        let wanted: HashSet<&str> = names.into_iter().collect();
        assignment.unused = self.iter().map(|(name, _)| name).filter(|name| !wanted.contains(name)).collect();
        if self.all_begin_with("module.") {
            assignment.hint = "; all its names begin with `module.`, which has to be stripped";
        }
        Ok(assignment)
    }
}

impl Assignment<'_> {
    /// Says that nothing is missing.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] with the names, and with what the file has instead.
    pub fn complete(&self) -> Result<(), WeightsError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let unused = match self.unused.is_empty() {
            true => String::new(),
            false => format!("; it has others that the model lacks: {}", listed(&self.unused)),
        };
        let hint = format!("{unused}{}", self.hint);
        Err(WeightsError::Missing { path: self.source.clone(), missing: self.missing.clone(), hint })
    }
}
