//! Scores of a classifier: confusion matrix, recall, precision and F1 of each class, ROC curve and AUC, sensitivity at a
//! fixed specificity. Pure functions over probabilities; nothing here runs a model.
//!
//! A score that the data do not define, such as the recall of a class that no example has, is `None` and never NaN.
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

/// Specificities at which [`BinaryScores`] states the sensitivity, and the other way round.
const TARGETS: [f64; 2] = [0.95, 0.9];
/// Up to this many classes, the whole confusion matrix is printed: it then fits a terminal of 120 columns.
const MATRIX_CLASSES: usize = 16;
/// Seed of the bootstrap in [`Scores::of`], fixed so that the same predictions give the same interval.
const SEED: u64 = 1;

/// Why predictions cannot be scored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScoreError {
    /// There is nothing to score.
    #[error("there are no predictions to score")]
    Empty,
    /// One class can be neither right nor wrong.
    #[error("a classifier has at least two classes, not {0}")]
    Classes(usize),
    /// The probabilities are not `[n, classes]` for labels `[n]`.
    #[error("{labels} labels and {classes} classes need {} probabilities, not {probabilities}", labels.saturating_mul(*classes))]
    Length {
        /// How many probabilities there are.
        probabilities: usize,
        /// How many labels there are.
        labels: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// A probability that is NaN or infinite.
    #[error(
        "the probability of class {class} in row {row} is {value}: the model has diverged, or the row is no prediction"
    )]
    Probability {
        /// Row of the example, from 0.
        row: usize,
        /// Index of the class.
        class: usize,
        /// The value.
        value: f32,
    },
    /// A label that names no class.
    #[error("the label in row {row} is {label}, with {classes} classes it is at most {}", classes - 1)]
    Label {
        /// Row of the example, from 0.
        row: usize,
        /// The label.
        label: u32,
        /// How many classes there are.
        classes: usize,
    },
    /// Not one name for each class.
    #[error("{classes} classes need as many names, not {names}")]
    Names {
        /// How many names there are.
        names: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// A positive class that is none of two.
    #[error("the positive class {positive} is not one of two: there are {classes} classes")]
    Positive {
        /// The index given.
        positive: usize,
        /// How many classes there are.
        classes: usize,
    },
}

/// What a classifier said of labelled examples, checked: n > 0 rows, at least two classes, finite numbers, labels that
/// name a class.
#[derive(Debug, Clone, Copy)]
pub struct Predictions<'a> {
    /// `[n, classes]`, row-major.
    probabilities: &'a [f32],
    classes: usize,
    labels: &'a [u32],
}

impl<'a> Predictions<'a> {
    /// Predictions from class probabilities `[n, classes]`, row-major, and labels `[n]`, each an index of a class.
    ///
    /// Any finite numbers that rise with the belief in a class will do, such as logits; thresholds are in their unit then.
    ///
    /// # Errors
    /// [`ScoreError::Empty`], [`ScoreError::Classes`], [`ScoreError::Length`], [`ScoreError::Label`], and
    /// [`ScoreError::Probability`] for a value that is not finite.
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

    /// The most probable class of each example, the first of equals.
    pub fn predicted(&self) -> impl Iterator<Item = usize> {
        self.probabilities.chunks_exact(self.classes).map(|row| {
            let better = |best, class| if row[class] > row[best] { class } else { best };
            (0..row.len()).fold(0, better)
        })
    }

    /// `[true class][predicted class]`: how many examples.
    pub fn confusion(&self) -> Vec<Vec<u64>> {
        let mut counts = vec![vec![0; self.classes]; self.classes];
        for (label, predicted) in self.labels.iter().zip(self.predicted()) {
            counts[*label as usize][predicted] += 1;
        }
        counts
    }

    /// The ROC curve of one class against the rest. None if no example, or every example, has the class, or if there is
    /// no such class.
    pub fn roc(&self, class: usize) -> Option<Roc> {
        let rows = self.probabilities.chunks_exact(self.classes).zip(self.labels);
        let scored: Option<Vec<_>> =
            rows.map(|(row, label)| Some((*row.get(class)?, *label as usize == class))).collect();
        Roc::of(scored?)
    }
}

/// All scores of a classifier. Serialises as one JSON object; [`Run::write_scores`](crate::Run::write_scores) keeps it
/// beside a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// How many examples were scored.
    pub examples: u64,
    /// Share of examples whose most probable class is theirs.
    pub accuracy: f64,
    /// Mean recall over the classes. None if a class has no example.
    pub balanced_accuracy: Option<f64>,
    /// Mean over the classes of the area under the ROC curve of each against the rest, all of equal weight. None if a
    /// class has no example.
    pub macro_auc: Option<f64>,
    /// `[true class][predicted class]`: how many examples.
    pub confusion: Vec<Vec<u64>>,
    /// Scores of each class, in the order of their indices.
    pub classes: Vec<ClassScores>,
    /// What there is for two classes only. None for more classes, or if one of the two has no example.
    pub binary: Option<BinaryScores>,
}

/// Scores of one class against the rest. With TP, FP and FN the examples rightly given the class, wrongly given it, and
/// wrongly not given it:
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Name of the class.
    pub name: String,
    /// How many examples have it.
    pub examples: u64,
    /// TP / (TP + FN), also called sensitivity. None if no example has the class.
    pub recall: Option<f64>,
    /// TP / (TP + FP). None if the class was never predicted.
    pub precision: Option<f64>,
    /// 2 TP / (2 TP + FP + FN), the harmonic mean of both. None if the class neither occurs nor is predicted.
    pub f1: Option<f64>,
    /// Area under the ROC curve of this class against the rest. None if no example, or every example, has the class.
    pub auc: Option<f64>,
}

/// Scores of two classes, one of which is called positive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BinaryScores {
    /// Index of the positive class.
    pub positive: usize,
    /// Area under the curve.
    pub auc: Auc,
    /// The highest sensitivity with a specificity of at least 0.95, and at least 0.9.
    pub at_specificity: Vec<OperatingPoint>,
    /// The highest specificity with a sensitivity of at least 0.95, and at least 0.9.
    pub at_sensitivity: Vec<OperatingPoint>,
    /// The curve.
    pub roc: Roc,
}

impl Scores {
    /// Scores predictions. `names` has one name for each class. `positive` is the index of the class that counts as
    /// positive where there are two; None is class 1. For more classes it must be None.
    ///
    /// # Errors
    /// [`ScoreError::Names`] and [`ScoreError::Positive`].
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

    /// Formats the scores as lines of text: figures of the whole, a row for each class, and the confusion matrix.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.figures();
        lines.extend(self.class_table());
        lines.push(String::new());
        lines.extend(self.confusion_table());
        lines
    }

    fn figures(&self) -> Vec<String> {
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

    /// A row for each class, below a header.
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

    /// The confusion matrix, a row for each true class; columns are numbered as the rows. With more than
    /// [`MATRIX_CLASSES`] classes, the most frequent confusions instead.
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
        let header = "most frequent confusions; --json has the whole matrix".to_owned();
        let row = |(count, t, p): &(u64, usize, usize)| {
            format!("{count:>8}  {} predicted as {}", name(*t), name(*p))
        };
        std::iter::once(header).chain(wrong.iter().take(10).map(row)).collect()
    }

    fn name_width(&self) -> usize {
        self.classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).max(5)
    }
}

/// Formats a score with four digits, or a dash if it is not defined.
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

/// The mean of values that are all there.
fn mean(values: impl ExactSizeIterator<Item = Option<f64>>) -> Option<f64> {
    let count = values.len() as f64;
    values.sum::<Option<f64>>().map(|sum| sum / count)
}
