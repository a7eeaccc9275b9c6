// C = A·B, one tile of TILE_M × TILE_N elements per subgroup, in registers, without workgroup memory or barriers. A
// workgroup is one subgroup of LANES invocations.
//
// Each lane has all rows of the tile and every LANES-th column. For LANES steps along k, each lane loads one element of
// every row of A, the element of its own step, and broadcasts it at that step. This suits devices where loads cost
// far more than arithmetic, such as software devices, which load lane by lane.
//
// Prepended by the generator: M, N, K, BATCH, GROUPS_X, GROUPS_Y, LANES, TILE_M, TILE_N, TILES_M, TILES_N, WHOLE_K (K
// rounded down to a multiple of LANES); side_a(batch, i), depth_a(p), load_a(side, depth), the same for b with j;
// epilogue(batch, i, j, product).
// Rows and columns past the end repeat the last one and are not stored.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let number = group.x + (group.y + group.z * GROUPS_Y) * GROUPS_X;
    // The grid may have more workgroups than tiles. The extra ones repeat the last tile and store nothing.
    let live = number < BATCH * TILES_M * TILES_N;
    let tile = min(number, BATCH * TILES_M * TILES_N - 1u);
    let batch = tile / (TILES_M * TILES_N);
    let i0 = tile / TILES_N % TILES_M * TILE_M;
    let j0 = tile % TILES_N * TILE_N;
    //@ sides
    //@ accumulators
    for (var p0 = 0u; p0 < WHOLE_K; p0 += LANES) {
        //@ accumulate
    }
    //@ rest
    if live {
        //@ store
    }
}
