// C = A·B, one tile of TILE_M × TILE_N elements per workgroup, whose invocations split the steps along k. For matrices
// with few rows and columns and a long k, where one invocation per block would not keep a device busy.
//
// There are PARTS times BLOCKS invocations. Each part sums every PARTS-th step along k for the whole tile, and each
// invocation of the part computes a block of 4 × 4 elements in registers, loaded directly from the operands. The upper
// half of the parts then passes its sums to the lower half through workgroup memory, as [part][block] with four vec4,
// until one part has the total: a tree of fixed order.
//
// Prepended by the generator: M, N, K, BATCH, THREADS, GROUPS_X, GROUPS_Y, TILE_M, TILE_N, TILES_M, TILES_N, PARTS,
// BLOCKS, BLOCKS_N (blocks along n); side_a(batch, i), depth_a(p), load_a(side, depth), the same for b with j;
// epilogue(batch, i, j, product). Rows and columns past the end repeat the last one and are not stored.
var<workgroup> sums: array<vec4<f32>, PARTS / 2 * BLOCKS * 4>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let number = group.x + (group.y + group.z * GROUPS_Y) * GROUPS_X;
    // The grid may have more workgroups than tiles. The extra ones repeat the last tile and store nothing.
    let live = number < BATCH * TILES_M * TILES_N;
    let tile = min(number, BATCH * TILES_M * TILES_N - 1u);
    let batch = tile / (TILES_M * TILES_N);
    //@ place
    let i0 = tile / TILES_N % TILES_M * TILE_M + block / BLOCKS_N * 4u;
    let j0 = tile % TILES_N * TILE_N + block % BLOCKS_N * 4u;
    //@ sides
    //@ accumulators
    for (var p = part; p < K; p += PARTS) {
        //@ accumulate
    }
    for (var half = PARTS / 2u; half > 0u; half /= 2u) {
        // The sums of the previous step have been read.
        workgroupBarrier();
        if part >= half && part < 2u * half {
            let at = ((part - half) * BLOCKS + block) * 4u;
            //@ hand over
        }
        workgroupBarrier();
        if part < half {
            let at = (part * BLOCKS + block) * 4u;
            //@ take
        }
    }
    if live && part == 0u {
        //@ store
    }
}
