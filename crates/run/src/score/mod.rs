//! Scores of a classifier, computed from class probabilities and labels. This module does not run a model.
//!
//! Scores include the confusion matrix, recall, precision and F1 of each class, the ROC curve, the area under the
//! curve (AUC), and the sensitivity at a fixed specificity. A score that is undefined for the data, such as the
//! recall of a class without examples, is `None`, never NaN.
//!
//! ```
//! use wgrad_run::{Predictions, Scores};
//!
//! let probabilities = [0.9, 0.1, 0.4, 0.6, 0.7, 0.3, 0.2, 0.8];
//! let predictions = Predictions::new(&probabilities, 2, &[0, 1, 1, 1])?;
//! let names = ["benign".to_owned(), "malignant".to_owned()];
//! let scores = Scores::of(&predictions, &names, Some(1))?;
//! assert_eq!(scores.accuracy, 0.75);
//! assert_eq!(scores.classes[1].recall, Some(2.0 / 3.0));
//! assert_eq!(scores.binary.unwrap().auc.value, 1.0);
//! # Ok::<(), wgrad_run::ScoreError>(())
//! ```

mod roc;

pub use roc::{Auc, OperatingPoint, Roc, RocPoint};

use serde::{Deserialize, Serialize};
use wgrad_stdx::ErrorKind;

/// Minimum specificities and sensitivities of the operating points in [`BinaryScores`].
const TARGETS: [f64; 2] = [0.95, 0.9];
/// Maximum number of classes for which the entire confusion matrix is printed, so that it fits a terminal of 120
/// columns.
const MATRIX_CLASSES: usize = 16;
/// Seed of the bootstrap in [`Scores::of`]. The seed is fixed so that the same predictions give the same interval.
const SEED: u64 = 1;

/// Error while computing scores of predictions.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScoreError {
    /// There are no predictions.
    #[error("cannot compute scores without examples: expected at least 1, found 0")]
    Empty,
    /// There are fewer than two classes.
    #[error("a classifier must have at least 2 classes, found {0}")]
    Classes(usize),
    /// The shape of the probabilities is not `[n, classes]` for labels `[n]`.
    #[error("{labels} labels and {classes} classes need {} probabilities, found {probabilities}", labels.saturating_mul(*classes))]
    Length {
        /// Number of probabilities.
        probabilities: usize,
        /// Number of labels.
        labels: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A probability is NaN or infinite.
    #[error(
        "the probability of class {class} in row {row} is {value}: the model has diverged, or the row is not a prediction"
    )]
    Probability {
        /// Index of the example, from 0.
        row: usize,
        /// Index of the class, from 0.
        class: usize,
        /// Value of the probability.
        value: f32,
    },
    /// A label is not the index of a class.
    #[error("the label in row {row} is {label}; labels of {classes} classes range from 0 to {}", classes - 1)]
    Label {
        /// Index of the example, from 0.
        row: usize,
        /// Invalid label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// The number of class names differs from the number of classes.
    #[error("{classes} classes need {classes} names, found {names}")]
    Names {
        /// Number of class names.
        names: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A positive class is given although there are more than two classes, or it is not 0 or 1.
    #[error(
        "positive class {positive} is invalid for {classes} classes; expected 0 or 1 and exactly two classes"
    )]
    Positive {
        /// Index given as the positive class.
        positive: usize,
        /// Number of classes.
        classes: usize,
    },
}

/// Predicted class probabilities and labels of a set of examples.
///
/// [`Predictions::new`] checks that there is at least one example and at least two classes, that all probabilities are
/// finite, and that all labels are below the number of classes.
#[derive(Debug, Clone, Copy)]
pub struct Predictions<'a> {
    /// Class probabilities `[n, classes]` of n examples, row-major.
    probabilities: &'a [f32],
    classes: usize,
    labels: &'a [u32],
}

impl ScoreError {
    /// Returns the kind of the error, always [`ErrorKind::Numeric`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Numeric
    }
}

impl<'a> Predictions<'a> {
    /// Creates predictions from class probabilities `[n, classes]`, row-major, and class indices `[n]` as labels.
    ///
    /// Other finite scores, such as logits, are also accepted. Thresholds then refer to these scores.
    ///
    /// # Errors
    /// Returns [`ScoreError::Empty`] if there are no examples, [`ScoreError::Classes`] if there are fewer than two
    /// classes, [`ScoreError::Length`] if the lengths do not match, [`ScoreError::Label`] if a label is not the index
    /// of a class, and [`ScoreError::Probability`] if a value is not finite.
    pub fn new(probabilities: &'a [f32], classes: usize, labels: &'a [u32]) -> Result<Self, ScoreError> {
        if classes < 2 {
            return Err(ScoreError::Classes(classes));
        }
        if labels.len().checked_mul(classes) != Some(probabilities.len()) {
            let (probabilities, labels) = (probabilities.len(), labels.len());
            return Err(ScoreError::Length { probabilities, labels, classes });
        }
        if labels.is_empty() {
            return Err(ScoreError::Empty);
        }
        if let Some(row) = labels.iter().position(|label| *label as usize >= classes) {
            return Err(ScoreError::Label { row, label: labels[row], classes });
        }
        if let Some(at) = probabilities.iter().position(|value| !value.is_finite()) {
            let (row, class, value) = (at / classes, at % classes, probabilities[at]);
            return Err(ScoreError::Probability { row, class, value });
        }
        Ok(Self { probabilities, classes, labels })
    }

    /// Returns the most probable class of each example. If several classes have the same probability, returns the
    /// first.
    pub fn predicted(&self) -> impl Iterator<Item = usize> {
        self.probabilities.chunks_exact(self.classes).map(|row| {
            let better = |best, class| if row[class] > row[best] { class } else { best };
            (0..row.len()).fold(0, better)
        })
    }

    /// Returns the confusion matrix: the number of examples at `[true class][predicted class]`.
    pub fn confusion(&self) -> Vec<Vec<u64>> {
        let mut counts = vec![vec![0; self.classes]; self.classes];
        for (label, predicted) in self.labels.iter().zip(self.predicted()) {
            counts[*label as usize][predicted] += 1;
        }
        counts
    }

    /// Returns the ROC curve of one class against all others.
    ///
    /// Returns `None` if no example or every example has the class, or if the class does not exist.
    pub fn roc(&self, class: usize) -> Option<Roc> {
        let rows = self.probabilities.chunks_exact(self.classes).zip(self.labels);
        let scored: Option<Vec<_>> =
            rows.map(|(row, label)| Some((*row.get(class)?, *label as usize == class))).collect();
        Roc::of(scored?)
    }
}

/// All scores of a classifier.
///
/// [`Run::write_scores`](crate::Run::write_scores) writes the scores as JSON into the run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Number of examples.
    pub examples: u64,
    /// Fraction of examples for which the most probable class is the label.
    pub accuracy: f64,
    /// Mean recall over all classes. `None` if a class has no example.
    pub balanced_accuracy: Option<f64>,
    /// Unweighted mean of the one-versus-rest AUC over all classes. `None` if a class has no example.
    pub macro_auc: Option<f64>,
    /// Number of examples at `[true class][predicted class]`.
    pub confusion: Vec<Vec<u64>>,
    /// Scores of each class, in the order of class indices.
    pub classes: Vec<ClassScores>,
    /// Scores that are defined only for two classes. `None` for more classes, or if a class has no example.
    pub binary: Option<BinaryScores>,
}

/// Scores of one class against all others.
///
/// TP, FP and FN are the numbers of true positives, false positives and false negatives of the class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Name of the class.
    pub name: String,
    /// Number of examples of the class.
    pub examples: u64,
    /// TP / (TP + FN), also called sensitivity. `None` if no example has the class.
    pub recall: Option<f64>,
    /// TP / (TP + FP). `None` if the class was never predicted.
    pub precision: Option<f64>,
    /// 2 TP / (2 TP + FP + FN), the harmonic mean of recall and precision. `None` if the class neither occurs nor is
    /// predicted.
    pub f1: Option<f64>,
    /// Area under the ROC curve of the class against all others. `None` if no example or every example has the class.
    pub auc: Option<f64>,
}

/// Scores of a classifier with a positive and a negative class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BinaryScores {
    /// Index of the positive class.
    pub positive: usize,
    /// Area under the ROC curve.
    pub auc: Auc,
    /// Highest sensitivity at a specificity of at least 0.95, and of at least 0.9.
    pub at_specificity: Vec<OperatingPoint>,
    /// Highest specificity at a sensitivity of at least 0.95, and of at least 0.9.
    pub at_sensitivity: Vec<OperatingPoint>,
    /// ROC curve of the positive class.
    pub roc: Roc,
}

impl Scores {
    /// Computes the scores of predictions.
    ///
    /// `names` has one name for each class. With two classes, `positive` is the index of the positive class, by
    /// default 1. With more than two classes, `positive` must be `None`.
    ///
    /// # Errors
    /// Returns [`ScoreError::Names`] if the number of names differs from the number of classes, and
    /// [`ScoreError::Positive`] if `positive` is given for more than two classes or is not 0 or 1.
    pub fn of(
        predictions: &Predictions<'_>,
        names: &[String],
        positive: Option<usize>,
    ) -> Result<Self, ScoreError> {
        let classes = predictions.classes;
        if names.len() != classes {
            return Err(ScoreError::Names { names: names.len(), classes });
        }
        if let Some(positive) = positive.filter(|positive| classes != 2 || *positive >= classes) {
            return Err(ScoreError::Positive { positive, classes });
        }
        let confusion = predictions.confusion();
        let examples = predictions.labels.len() as u64;
        let correct: u64 = (0..classes).map(|class| confusion[class][class]).sum();
        let each: Vec<ClassScores> = names
            .iter()
            .enumerate()
            .map(|(class, name)| {
                let auc = predictions.roc(class).map(|roc| roc.area());
                ClassScores::of(name, class, &confusion, auc)
            })
            .collect();
        let binary = (classes == 2).then(|| BinaryScores::of(predictions, positive.unwrap_or(1))).flatten();
        Ok(Self {
            examples,
            accuracy: correct as f64 / examples as f64,
            balanced_accuracy: mean(each.iter().map(|class| class.recall)),
            macro_auc: mean(each.iter().map(|class| class.auc)),
            confusion,
            classes: each,
            binary,
        })
    }

    /// Formats the scores as lines of text: overall scores, a row for each class, and the confusion matrix.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.overall_lines();
        lines.extend(self.class_table());
        lines.push(String::new());
        lines.extend(self.confusion_table());
        lines
    }

    /// Formats the scores that refer to all classes together.
    fn overall_lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("examples           {}", self.examples),
            format!("accuracy           {:.4}", self.accuracy),
            format!("balanced accuracy  {}", or_dash(self.balanced_accuracy)),
        ];
        let Some(binary) = &self.binary else {
            lines.push(format!("macro AUC          {}", or_dash(self.macro_auc)));
            return lines;
        };
        let Auc { value, standard_error, interval: [low, high] } = binary.auc;
        lines.push(format!(
            "AUC                {value:.4}  (95% {low:.4} to {high:.4}, standard error {standard_error:.4})"
        ));
        for (fixed, points) in
            [("specificity", &binary.at_specificity), ("sensitivity", &binary.at_sensitivity)]
        {
            lines.extend(
                points.iter().map(|point| format!("{fixed} ≥ {}  {}", point.target, point.describe())),
            );
        }
        lines
    }

    /// Formats a table with a header and a row for each class.
    fn class_table(&self) -> Vec<String> {
        let width = self.name_width();
        let mut lines = vec![format!("{:width$}  examples  recall  precision      F1     AUC", "class")];
        lines.extend(self.classes.iter().map(|class| {
            let ClassScores { name, examples, recall, precision, f1, auc } = class;
            let [recall, precision, f1, auc] = [recall, precision, f1, auc].map(|value| or_dash(*value));
            format!("{name:width$}  {examples:>8}  {recall:>6}  {precision:>9}  {f1:>6}  {auc:>6}")
        }));
        lines
    }

    /// Formats the confusion matrix with a row for each true class and a column for each predicted class.
    ///
    /// With more than [`MATRIX_CLASSES`] classes, formats the most frequent confusions instead.
    fn confusion_table(&self) -> Vec<String> {
        if self.classes.len() > MATRIX_CLASSES {
            return self.frequent_confusions();
        }
        let counts = self.confusion.iter().flatten().copied();
        let cell = 1 + counts.max().unwrap_or(0).to_string().len().max(2);
        let (width, index) = (self.name_width(), (self.classes.len() - 1).to_string().len());
        let header: String = (0..self.classes.len()).map(|class| format!("{class:>cell$}")).collect();
        let mut lines = vec![
            "confusion matrix: true classes are rows, predicted classes are columns".to_owned(),
            format!("{:index$}  {:width$}{header}", "", ""),
        ];
        lines.extend(self.confusion.iter().zip(&self.classes).enumerate().map(|(class, (row, scores))| {
            let row: String = row.iter().map(|count| format!("{count:>cell$}")).collect();
            format!("{class:>index$}  {:width$}{row}", scores.name)
        }));
        lines
    }

    fn frequent_confusions(&self) -> Vec<String> {
        let name = |class: usize| &self.classes[class].name;
        let rows = self.confusion.iter().enumerate();
        let cells = rows.flat_map(|(t, row)| row.iter().enumerate().map(move |(p, count)| (*count, t, p)));
        let mut wrong: Vec<(u64, usize, usize)> = cells.filter(|(n, t, p)| *n > 0 && t != p).collect();
        wrong.sort_by_key(|(count, t, p)| (std::cmp::Reverse(*count), *t, *p));
        let header = "most frequent confusions; --json prints the whole matrix".to_owned();
        let row = |(count, t, p): &(u64, usize, usize)| {
            format!("{count:>8}  {} predicted as {}", name(*t), name(*p))
        };
        std::iter::once(header).chain(wrong.iter().take(10).map(row)).collect()
    }

    fn name_width(&self) -> usize {
        self.classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).max(5)
    }
}

/// Formats a score with four decimals, or as a dash if the score is undefined.
fn or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

impl ClassScores {
    fn of(name: &str, class: usize, confusion: &[Vec<u64>], auc: Option<f64>) -> Self {
        let hits = confusion[class][class];
        let examples: u64 = confusion[class].iter().sum();
        let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        Self {
            name: name.to_owned(),
            examples,
            recall: ratio(hits, examples),
            precision: ratio(hits, predicted),
            f1: ratio(2 * hits, examples + predicted),
            auc,
        }
    }
}

impl BinaryScores {
    fn of(predictions: &Predictions<'_>, positive: usize) -> Option<Self> {
        let roc = predictions.roc(positive)?;
        Some(Self {
            positive,
            auc: roc.auc(SEED),
            at_specificity: TARGETS.map(|target| roc.at_specificity(target)).into(),
            at_sensitivity: TARGETS.map(|target| roc.at_sensitivity(target)).into(),
            roc,
        })
    }
}

/// Returns the mean of all values, or `None` if any value is `None`.
fn mean(values: impl ExactSizeIterator<Item = Option<f64>>) -> Option<f64> {
    let count = values.len() as f64;
    values.sum::<Option<f64>>().map(|sum| sum / count)
}
