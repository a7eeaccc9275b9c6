// C = A·B, one block of ROWS × COLUMNS elements per invocation, in registers. Operands are loaded directly from memory,
// without workgroup memory or barriers, which are slow on software devices.
//
// Prepended by the generator: M, N, K, BATCH, THREADS, GROUPS_X, GROUPS_Y, ROWS, COLUMNS, BLOCKS_M, BLOCKS_N;
// side_a(batch, i), depth_a(p), load_a(side, depth), the same for b with j; epilogue(batch, i, j, product).
// Rows and columns past the end repeat the last one and are not stored.
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let block = (group.x + (group.y + group.z * GROUPS_Y) * GROUPS_X) * THREADS + local;
    if block >= BATCH * BLOCKS_M * BLOCKS_N {
        return;
    }
    let batch = block / (BLOCKS_M * BLOCKS_N);
    let i0 = block / BLOCKS_N % BLOCKS_M * ROWS;
    let j0 = block % BLOCKS_N * COLUMNS;
    //@ sides
    //@ accumulators
    for (var p = 0u; p < K; p += 1u) {
        //@ accumulate
    }
    //@ store
}
