//! Choice of the workgroup of a reduction: the number of rows, and the number of lanes that share a row.
//!
//! | adapter  | rows             | neighbouring invocations take | lanes per row                   |
//! |----------|------------------|-------------------------------|---------------------------------|
//! | software | 64 or more       | rows                          | 1: barriers cost more than loops |
//! | software | fewer, and long  | columns                       | 32                              |
//! | GPU      | contiguous       | columns                       | a quarter of the columns, up to 256; with few rows all columns, up to 1024 |
//! | GPU      | strided          | rows                          | 1, or more if too few invocations would run |

use wgrad_program::{Instr, Loop};

use super::target::Target;
use super::variant::Lanes;
use crate::adapter::Class;

/// Number of invocations that keep a GPU busy.
const BUSY_INVOCATIONS: usize = 16 << 10;

/// Returns the workgroup, and whether neighbouring invocations process neighbouring columns (rather than rows).
pub(super) fn choose(kernel: &Loop, target: &Target) -> (Lanes, bool) {
    let along_columns = along_columns(kernel);
    if kernel.inner.is_empty() {
        let rows = if target.class == Class::Software { 64 } else { 256 };
        return (Lanes { rows: rows.min(target.max_invocations), lanes: 1 }, false);
    }
    let lanes =
        target.lanes.unwrap_or_else(|| by_shape(kernel.rows(), kernel.columns(), along_columns, target));
    (clamped(lanes, target), along_columns && lanes.lanes > 1)
}

fn by_shape(rows: usize, columns: usize, along_columns: bool, target: &Target) -> Lanes {
    let pair = |rows: usize, lanes: usize| Lanes { rows: rows as u32, lanes: lanes as u32 };
    if target.class == Class::Software {
        return match rows {
            0..64 if columns >= 1024 => pair(1, 32),
            // Keep enough workgroups for all cores, and enough rows per workgroup for the lanes of a vector.
            _ => pair((rows / 16).next_power_of_two().clamp(8, 64), 1),
        };
    }
    if along_columns {
        let few = rows * columns.div_ceil(4) < BUSY_INVOCATIONS;
        let lanes = if few { columns.min(1024) } else { columns.div_ceil(4).min(256) }.next_power_of_two();
        return pair((128 / lanes).max(1), lanes);
    }
    let wide = rows.next_power_of_two().min(32);
    let mut lanes = 1;
    while rows * lanes < BUSY_INVOCATIONS && lanes * 8 <= columns && wide * lanes < 256 {
        lanes *= 2;
    }
    pair((64 / lanes).max(wide), lanes)
}

/// Reduces the number of lanes, then the number of rows, until the workgroup is within the limits of the device.
///
/// A reduction uses at most 32 bytes of workgroup memory per invocation.
fn clamped(wanted: Lanes, target: &Target) -> Lanes {
    let most = target.max_invocations.min(target.max_workgroup_bytes / 32).max(1);
    let floor = |n: u32| 1 << n.max(1).ilog2();
    let lanes = floor(wanted.lanes.min(most));
    Lanes { rows: wanted.rows.clamp(1, (most / lanes).max(1)), lanes }
}

/// Whether more loads are contiguous along columns than along rows.
fn along_columns(kernel: &Loop) -> bool {
    let last = |sizes: &[usize], from: usize| sizes.iter().rposition(|&n| n != 1).map(|i| i + from);
    let (row, column) = (last(&kernel.outer, 0), last(&kernel.inner, kernel.outer.len()));
    let votes = kernel.body.iter().map(|instr| match instr {
        Instr::Load { layout, .. } => {
            let unit = |dim: Option<usize>| dim.is_some_and(|i| layout.strides[i] == 1);
            i32::from(unit(column)) - i32::from(unit(row))
        }
        _ => 0,
    });
    votes.sum::<i32>() >= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_stay_within_the_limits() {
        for class in [Class::Software, Class::Discrete] {
            for max_invocations in [1, 64, 256, 1024] {
                let target = Target { max_invocations, ..Target::portable(class) };
                for rows in [1, 7, 64, 100_000] {
                    for columns in [1, 3, 1000, 1 << 20] {
                        for along in [false, true] {
                            let lanes = clamped(by_shape(rows, columns, along, &target), &target);
                            assert!(
                                lanes.rows * lanes.lanes <= max_invocations && lanes.rows > 0,
                                "{lanes:?}"
                            );
                            assert!(lanes.lanes.is_power_of_two(), "{lanes:?}");
                        }
                    }
                }
            }
        }
    }
}
