//! A generated kernel, and the grid of workgroups that runs it.

/// WGSL of a kernel without the declarations of its operands, with its dispatch size.
pub(super) struct Generated {
    pub text: String,
    pub workgroups: [u32; 3],
    pub invocations: u32,
    pub choice: String,
}

/// Distributes `groups` workgroups over three dimensions. No dimension exceeds `limit`. The grid may contain more than
/// `groups` workgroups.
pub(super) fn workgroup_grid(groups: usize, limit: u32) -> [u32; 3] {
    let limit = limit.max(1) as usize;
    let z = groups.div_ceil(limit * limit).max(1);
    let y = groups.div_ceil(limit * z).clamp(1, limit);
    let x = groups.div_ceil(y * z).clamp(1, limit);
    [x as u32, y as u32, z.min(limit) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_respect_the_limit_and_cover_all_workgroups() {
        for groups in [1, 2, 65_535, 65_536, 65_537, 1 << 20, 65_535 * 65_535, 65_535 * 65_535 + 1] {
            let grid = workgroup_grid(groups, 65_535).map(|n| n as usize);
            assert!(grid.iter().all(|&n| (1..=65_535).contains(&n)), "{groups}: {grid:?}");
            let all: usize = grid.iter().product();
            assert!(all >= groups && all - groups < groups / 100 + 2, "{groups}: {grid:?}");
        }
        assert_eq!(workgroup_grid(65_535, 65_535), [65_535, 1, 1]);
    }
}
