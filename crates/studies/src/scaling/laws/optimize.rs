//! The search behind [`fit`](super::fit): the parameters of E + Σ Aⱼ·xⱼ^(−αⱼ) with the lowest Huber loss of log errors. No
//! randomness, so the same points give the same law.
//!
//! Given exponents, the law is linear in what is left, so a grid of exponents, each with the best E and Aⱼ ≥ 0, shows where to
//! begin; from the best places Levenberg and Marquardt's method goes down, with parameters held at their bounds.

/// Terms at most.
const TERMS: usize = 2;
/// Parameters at most: E, then Aⱼ and αⱼ of each term.
const MOST: usize = 1 + 2 * TERMS;
/// The exponents that are searched.
pub(super) const EXPONENTS: [f64; 2] = [0.02, 2.5];
/// Exponents of the grid, evenly apart on a logarithmic scale.
const GRID: usize = 12;
/// So many of the grid's best places are begun from.
const STARTS: usize = 4;
/// Steps of a descent at most.
const STEPS: usize = 200;

/// E, A₁, α₁, A₂, α₂; the last two are 0 with one term.
pub(super) type Parameters = [f64; MOST];

/// Points that a law is sought for.
#[derive(Debug)]
pub(super) struct Points {
    /// ln(x / g) of each point, with g the geometric mean of that variable: so A is the term's loss in the middle of the points.
    pub logs: Vec<[f64; TERMS]>,
    /// How many terms: 1 or 2.
    pub terms: usize,
    /// E is no higher.
    pub most: f64,
}

impl Points {
    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        1 + 2 * self.terms
    }

    /// The law's value at one of the points.
    pub fn value(&self, theta: &Parameters, logs: &[f64; TERMS]) -> f64 {
        let term = |j: usize| theta[1 + 2 * j] * (-theta[2 + 2 * j] * logs[j]).exp();
        theta[0] + (0..self.terms).map(term).sum::<f64>()
    }

    /// ln of the law over the loss at each point; `targets` are logarithms of losses.
    pub fn residuals(&self, theta: &Parameters, targets: &[f64]) -> Vec<f64> {
        self.logs.iter().zip(targets).map(|(logs, target)| self.value(theta, logs).ln() - target).collect()
    }

    fn cost(&self, theta: &Parameters, targets: &[f64], delta: f64) -> f64 {
        let errors =
            self.logs.iter().zip(targets).map(|(logs, target)| self.value(theta, logs).ln() - target);
        let cost: f64 = errors.map(|error| huber(error, delta)).sum();
        if cost.is_nan() { f64::INFINITY } else { cost }
    }

    /// The parameters with the lowest Huber loss, from the best places of the grid. `deltas` are gone through one after the
    /// other, the last one is that of the result: a small one alone has the many hollows of absolute errors.
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
        ends.min_by(|a, b| a.0.total_cmp(&b.0)).map_or([0.0; MOST], |end| end.1)
    }

    /// The same for points much like those of a law that is known: from that law, and from slow and steep exponents.
    pub fn refine(&self, from: &Parameters, targets: &[f64], delta: f64) -> Parameters {
        let others = [0.1, 1.0].into_iter().filter_map(|exponent| self.linear(targets, [exponent; TERMS]));
        let ends = std::iter::once(*from).chain(others).map(|start| self.descend(start, targets, delta));
        ends.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(*from, |end| end.1)
    }

    fn grid(&self) -> Vec<[f64; TERMS]> {
        let [low, high] = EXPONENTS;
        let exponent = |index: usize| low * (high / low).powf(index as f64 / (GRID - 1) as f64);
        let second = if self.terms > 1 { GRID } else { 1 };
        (0..GRID * second).map(|index| [exponent(index % GRID), exponent(index / GRID)]).collect()
    }

    /// E and Aⱼ ≥ 0 with the least squares of relative errors, for given exponents: of all choices of what is 0 the best that
    /// leaves nothing below 0.
    fn linear(&self, targets: &[f64], exponents: [f64; TERMS]) -> Option<Parameters> {
        let unknowns = 1 + self.terms;
        let (mut matrix, mut right) = ([[0.0; MOST]; MOST], [0.0; MOST]);
        let rows: Vec<[f64; MOST]> = self
            .logs
            .iter()
            .zip(targets)
            .map(|(logs, target)| {
                let mut row = [0.0; MOST];
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
        let squares = |solution: &[f64; MOST]| -> f64 {
            let error = |row: &[f64; MOST]| row.iter().zip(solution).map(|(a, b)| a * b).sum::<f64>() - 1.0;
            rows.iter().map(error).map(|error| error * error).sum()
        };
        let solutions = (1..1usize << unknowns).filter_map(|choice| {
            let free = std::array::from_fn(|i| choice >> i & 1 == 1);
            let solution = solve(&matrix, &right, &free)?;
            solution.iter().all(|value| *value >= 0.0).then(|| (squares(&solution), solution))
        });
        let (_, best) = solutions.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let mut theta = [0.0; MOST];
        theta[0] = best[0].min(self.most);
        for j in 0..self.terms {
            (theta[1 + 2 * j], theta[2 + 2 * j]) = (best[1 + j], exponents[j]);
        }
        Some(theta)
    }

    /// Levenberg and Marquardt's method with Huber's weights; returns the cost as well.
    fn descend(&self, mut theta: Parameters, targets: &[f64], delta: f64) -> (f64, Parameters) {
        let mut cost = self.cost(&theta, targets, delta);
        let (mut damping, mut small) = (1e-3, 0);
        for _ in 0..STEPS {
            let (matrix, slope) = self.normal_equations(&theta, targets, delta);
            let free: [bool; MOST] = std::array::from_fn(|i| {
                let (low, high) = self.bounds(i);
                let leaves = (theta[i] <= low && slope[i] > 0.0) || (theta[i] >= high && slope[i] < 0.0);
                i < self.parameters() && matrix[i][i] > 0.0 && !leaves
            });
            let down = slope.map(|value| -value);
            let next = loop {
                let mut damped = matrix;
                for (i, row) in damped.iter_mut().enumerate() {
                    row[i] *= 1.0 + damping;
                }
                let moved = solve(&damped, &down, &free).map(|step| {
                    let place = |i| {
                        let (low, high) = self.bounds(i);
                        (theta[i] + step[i]).clamp(low, high)
                    };
                    let moved: Parameters = std::array::from_fn(place);
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

    /// Where a parameter may be: E from 0 to the most that it may be, Aⱼ from 0 on, exponents within [`EXPONENTS`].
    fn bounds(&self, index: usize) -> (f64, f64) {
        match index {
            0 => (0.0, self.most),
            _ if index.is_multiple_of(2) => (EXPONENTS[0], EXPONENTS[1]),
            _ => (0.0, f64::INFINITY),
        }
    }

    fn normal_equations(
        &self,
        theta: &Parameters,
        targets: &[f64],
        delta: f64,
    ) -> ([[f64; MOST]; MOST], Parameters) {
        let (mut matrix, mut slope) = ([[0.0; MOST]; MOST], [0.0; MOST]);
        let count = self.parameters();
        for (logs, target) in self.logs.iter().zip(targets) {
            let (mut row, mut value) = ([0.0; MOST], theta[0]);
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

fn huber(error: f64, delta: f64) -> f64 {
    let size = error.abs();
    if size <= delta { 0.5 * size * size } else { delta * (size - 0.5 * delta) }
}

/// The solution of those rows and columns of symmetric equations that are free, 0 elsewhere, by elimination with pivots. None
/// where they have none.
fn solve(matrix: &[[f64; MOST]; MOST], right: &[f64; MOST], free: &[bool; MOST]) -> Option<[f64; MOST]> {
    let index: Vec<usize> = (0..MOST).filter(|i| free[*i]).collect();
    if index.is_empty() {
        return None;
    }
    let size = index.len();
    // Rows and columns divided by the roots of the diagonal, so that one small number tells a singular matrix.
    let root = |i: usize| matrix[index[i]][index[i]].sqrt();
    let mut rows = [[0.0; MOST + 1]; MOST];
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
    let mut solution = [0.0; MOST];
    for i in (0..size).rev() {
        let known: f64 = (i + 1..size).map(|j| rows[i][j] * solution[index[j]] * root(j)).sum();
        solution[index[i]] = (rows[i][size] - known) / rows[i][i] / root(i);
    }
    solution.iter().all(|value| value.is_finite()).then_some(solution)
}
