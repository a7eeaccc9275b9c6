//! Optimizer of [`fit`](super::fit): finds the parameters of the law L̂ = E + Σ Aⱼ·xⱼ^(−αⱼ) that minimize the sum of
//! the Huber losses of ln L̂ − ln L over all points, where L is the measured loss. The optimizer is deterministic, so
//! the same points give the same law.
//!
//! For given exponents, the law is linear in E and Aⱼ. The search therefore begins with a grid of exponents and
//! computes the best E and Aⱼ ≥ 0 for each grid point. It then refines the best grid points by the Levenberg–Marquardt
//! method with bounds.

/// Maximum number of terms Aⱼ·xⱼ^(−αⱼ) of a law.
const TERMS: usize = 2;
/// Maximum number of parameters of a law: E, then Aⱼ and αⱼ of each term.
const MAX_PARAMETERS: usize = 1 + 2 * TERMS;
/// Lower and upper bound of the exponents αⱼ.
pub(super) const EXPONENTS: [f64; 2] = [0.02, 2.5];
/// Number of values on the grid for the exponent of each term, evenly spaced on a logarithmic scale.
const GRID: usize = 12;
/// Number of grid points that are refined: the points with the lowest cost.
const STARTS: usize = 4;
/// Maximum number of steps of a refinement.
const MAX_STEPS: usize = 200;

/// Parameters E, A₁, α₁, A₂, α₂. A₂ and α₂ are 0 if the law has one term.
pub(super) type Parameters = [f64; MAX_PARAMETERS];

/// Points that a law is fitted to. The measured losses are passed separately, as `targets`.
#[derive(Debug)]
pub(super) struct Points {
    /// Centred logarithms ln(x / g) of the variables of each point, where g is the geometric mean of the variable x.
    /// With these logarithms, A is the value of the term at x = g.
    pub logs: Vec<[f64; TERMS]>,
    /// Number of terms, 1 or 2.
    pub terms: usize,
    /// Upper bound of E: the lowest measured loss.
    pub max_floor: f64,
}

impl Points {
    /// Returns the number of parameters of the law: E, and two per term.
    pub fn parameters(&self) -> usize {
        1 + 2 * self.terms
    }

    /// Returns the value of the law with the parameters `theta` at a point, whose centred logarithms are `logs`.
    pub fn value(&self, theta: &Parameters, logs: &[f64; TERMS]) -> f64 {
        let term = |j: usize| theta[1 + 2 * j] * (-theta[2 + 2 * j] * logs[j]).exp();
        theta[0] + (0..self.terms).map(term).sum::<f64>()
    }

    /// Returns the residual ln L̂ − ln L of each point, where L̂ is the loss by the law. `targets` are the logarithms
    /// of the measured losses L.
    pub fn residuals(&self, theta: &Parameters, targets: &[f64]) -> Vec<f64> {
        self.logs.iter().zip(targets).map(|(logs, target)| self.value(theta, logs).ln() - target).collect()
    }

    /// Returns the sum of the Huber losses of the residuals, or infinity if the sum is NaN. `delta` is the threshold δ
    /// of the Huber loss.
    fn cost(&self, theta: &Parameters, targets: &[f64], delta: f64) -> f64 {
        let errors =
            self.logs.iter().zip(targets).map(|(logs, target)| self.value(theta, logs).ln() - target);
        let cost: f64 = errors.map(|error| huber(error, delta)).sum();
        if cost.is_nan() { f64::INFINITY } else { cost }
    }

    /// Returns the parameters with the lowest sum of Huber losses. Each of the best grid points is refined with the
    /// values δ in `deltas`, one after another. The results are compared by the Huber losses with the last δ. If the
    /// refinement began with a small δ, it could end in one of the many local minima of the sum of absolute errors.
    pub fn search(&self, targets: &[f64], deltas: &[f64]) -> Parameters {
        let last = deltas.last().copied().unwrap_or(f64::INFINITY);
        let first = deltas.first().copied().unwrap_or(f64::INFINITY);
        let mut starts: Vec<(f64, Parameters)> = self
            .grid()
            .into_iter()
            .filter_map(|exponents| self.linear(targets, exponents))
            .map(|theta| (self.cost(&theta, targets, first), theta))
            .collect();
        starts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ends = starts.iter().take(STARTS).map(|(_, start)| {
            let end = deltas.iter().fold(*start, |theta, delta| self.descend(theta, targets, *delta).1);
            (self.cost(&end, targets, last), end)
        });
        ends.min_by(|a, b| a.0.total_cmp(&b.0)).map_or([0.0; MAX_PARAMETERS], |end| end.1)
    }

    /// Returns the parameters with the lowest sum of Huber losses, for measured losses that are close to a known law
    /// `from`. The search has three starts: `from`, the best law with all exponents equal to 0.1, and the best law
    /// with all exponents equal to 1.
    pub fn refine(&self, from: &Parameters, targets: &[f64], delta: f64) -> Parameters {
        let others = [0.1, 1.0].into_iter().filter_map(|exponent| self.linear(targets, [exponent; TERMS]));
        let ends = std::iter::once(*from).chain(others).map(|start| self.descend(start, targets, delta));
        ends.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(*from, |end| end.1)
    }

    /// Returns the points of the grid, each as the exponents of all terms.
    fn grid(&self) -> Vec<[f64; TERMS]> {
        let [low, high] = EXPONENTS;
        let exponent = |index: usize| low * (high / low).powf(index as f64 / (GRID - 1) as f64);
        let second = if self.terms > 1 { GRID } else { 1 };
        (0..GRID * second).map(|index| [exponent(index % GRID), exponent(index / GRID)]).collect()
    }

    /// Returns the E and Aⱼ ≥ 0 with the smallest sum of squared relative errors for given exponents. Solves the
    /// least-squares equations for every subset of E and Aⱼ, with the other parameters set to 0. Of the solutions
    /// without negative values, the one with the smallest sum is returned, or `None` if there is none.
    fn linear(&self, targets: &[f64], exponents: [f64; TERMS]) -> Option<Parameters> {
        let unknowns = 1 + self.terms;
        let (mut matrix, mut right) = ([[0.0; MAX_PARAMETERS]; MAX_PARAMETERS], [0.0; MAX_PARAMETERS]);
        let rows: Vec<[f64; MAX_PARAMETERS]> = self
            .logs
            .iter()
            .zip(targets)
            .map(|(logs, target)| {
                let mut row = [0.0; MAX_PARAMETERS];
                row[0] = (-target).exp();
                for j in 0..self.terms {
                    row[1 + j] = (-exponents[j] * logs[j] - target).exp();
                }
                row
            })
            .collect();
        for row in &rows {
            for i in 0..unknowns {
                right[i] += row[i];
                for j in 0..unknowns {
                    matrix[i][j] += row[i] * row[j];
                }
            }
        }
        let squares = |solution: &[f64; MAX_PARAMETERS]| -> f64 {
            let error =
                |row: &[f64; MAX_PARAMETERS]| row.iter().zip(solution).map(|(a, b)| a * b).sum::<f64>() - 1.0;
            rows.iter().map(error).map(|error| error * error).sum()
        };
        let solutions = (1..1usize << unknowns).filter_map(|choice| {
            let free = std::array::from_fn(|i| choice >> i & 1 == 1);
            let solution = solve(&matrix, &right, &free)?;
            solution.iter().all(|value| *value >= 0.0).then(|| (squares(&solution), solution))
        });
        let (_, best) = solutions.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let mut theta = [0.0; MAX_PARAMETERS];
        theta[0] = best[0].min(self.max_floor);
        for j in 0..self.terms {
            (theta[1 + 2 * j], theta[2 + 2 * j]) = (best[1 + j], exponents[j]);
        }
        Some(theta)
    }

    /// Minimizes the sum of the Huber losses by the Levenberg–Marquardt method, starting from `theta`. Returns the sum
    /// and the parameters.
    fn descend(&self, mut theta: Parameters, targets: &[f64], delta: f64) -> (f64, Parameters) {
        let mut cost = self.cost(&theta, targets, delta);
        let (mut damping, mut small) = (1e-3, 0);
        for _ in 0..MAX_STEPS {
            let (matrix, slope) = self.normal_equations(&theta, targets, delta);
            let free: [bool; MAX_PARAMETERS] = std::array::from_fn(|i| {
                let (low, high) = self.bounds(i);
                let blocked = (theta[i] <= low && slope[i] > 0.0) || (theta[i] >= high && slope[i] < 0.0);
                i < self.parameters() && matrix[i][i] > 0.0 && !blocked
            });
            let down = slope.map(|value| -value);
            let next = loop {
                let mut damped = matrix;
                for (i, row) in damped.iter_mut().enumerate() {
                    row[i] *= 1.0 + damping;
                }
                let moved = solve(&damped, &down, &free).map(|step| {
                    let clamped = |i| {
                        let (low, high) = self.bounds(i);
                        (theta[i] + step[i]).clamp(low, high)
                    };
                    let moved: Parameters = std::array::from_fn(clamped);
                    (self.cost(&moved, targets, delta), moved)
                });
                if let Some(moved) = moved.filter(|moved| moved.0 < cost) {
                    damping = (damping * 0.2_f64).max(1e-14);
                    break Some(moved);
                }
                damping *= 4.0;
                if damping > 1e12 {
                    break None;
                }
            };
            let Some((lower, moved)) = next else { break };
            small = if cost - lower <= 1e-9 * cost { small + 1 } else { 0 };
            (cost, theta) = (lower, moved);
            if small > 2 {
                break;
            }
        }
        (cost, theta)
    }

    /// Returns the lower and upper bound of a parameter: E from 0 to `max_floor`, Aⱼ ≥ 0, exponents within
    /// [`EXPONENTS`].
    fn bounds(&self, index: usize) -> (f64, f64) {
        match index {
            0 => (0.0, self.max_floor),
            _ if index.is_multiple_of(2) => (EXPONENTS[0], EXPONENTS[1]),
            _ => (0.0, f64::INFINITY),
        }
    }

    /// Returns the matrix JᵀWJ and the gradient of the sum of the Huber losses, where J is the Jacobian of the
    /// residuals and the diagonal matrix W contains the Huber weights.
    fn normal_equations(
        &self,
        theta: &Parameters,
        targets: &[f64],
        delta: f64,
    ) -> ([[f64; MAX_PARAMETERS]; MAX_PARAMETERS], Parameters) {
        let (mut matrix, mut slope) = ([[0.0; MAX_PARAMETERS]; MAX_PARAMETERS], [0.0; MAX_PARAMETERS]);
        let count = self.parameters();
        for (logs, target) in self.logs.iter().zip(targets) {
            let (mut row, mut value) = ([0.0; MAX_PARAMETERS], theta[0]);
            for j in 0..self.terms {
                let power = (-theta[2 + 2 * j] * logs[j]).exp();
                value += theta[1 + 2 * j] * power;
                (row[1 + 2 * j], row[2 + 2 * j]) = (power, -theta[1 + 2 * j] * power * logs[j]);
            }
            row[0] = 1.0;
            let error = value.ln() - target;
            let weight = if error.abs() > delta { delta / error.abs() } else { 1.0 };
            for i in 0..count {
                let scaled = weight * row[i] / value;
                slope[i] += scaled * error;
                for j in 0..count {
                    matrix[i][j] += scaled * row[j] / value;
                }
            }
        }
        (matrix, slope)
    }
}

/// Returns the Huber loss of a residual: quadratic up to `delta`, then linear.
fn huber(error: f64, delta: f64) -> f64 {
    let size = error.abs();
    if size <= delta { 0.5 * size * size } else { delta * (size - 0.5 * delta) }
}

/// Solves a symmetric system of linear equations for the unknowns marked in `free`, by Gaussian elimination with
/// pivoting. The other unknowns are 0. Returns `None` if no unknown is free or the system is singular.
fn solve(
    matrix: &[[f64; MAX_PARAMETERS]; MAX_PARAMETERS],
    right: &[f64; MAX_PARAMETERS],
    free: &[bool; MAX_PARAMETERS],
) -> Option<[f64; MAX_PARAMETERS]> {
    let index: Vec<usize> = (0..MAX_PARAMETERS).filter(|i| free[*i]).collect();
    if index.is_empty() {
        return None;
    }
    let size = index.len();
    // Rows and columns are divided by the square roots of the diagonal elements, so that one threshold detects a
    // singular matrix.
    let root = |i: usize| matrix[index[i]][index[i]].sqrt();
    let mut rows = [[0.0; MAX_PARAMETERS + 1]; MAX_PARAMETERS];
    for i in 0..size {
        for j in 0..size {
            rows[i][j] = matrix[index[i]][index[j]] / (root(i) * root(j));
        }
        rows[i][size] = right[index[i]] / root(i);
    }
    for step in 0..size {
        let best = (step..size).max_by(|a, b| rows[*a][step].abs().total_cmp(&rows[*b][step].abs()))?;
        rows.swap(step, best);
        if rows[step][step].is_nan() || rows[step][step].abs() < 1e-15 {
            return None;
        }
        let pivot = rows[step];
        for row in rows.iter_mut().take(size).skip(step + 1) {
            let factor = row[step] / pivot[step];
            for (value, above) in row.iter_mut().zip(pivot).skip(step) {
                *value -= factor * above;
            }
        }
    }
    let mut solution = [0.0; MAX_PARAMETERS];
    for i in (0..size).rev() {
        let known: f64 = (i + 1..size).map(|j| rows[i][j] * solution[index[j]] * root(j)).sum();
        solution[index[i]] = (rows[i][size] - known) / rows[i][i] / root(i);
    }
    solution.iter().all(|value| value.is_finite()).then_some(solution)
}
