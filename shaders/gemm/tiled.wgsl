// C = A·B by tiles: each workgroup computes TILE_M × TILE_N elements of C, in steps of TILE_K along k.
//
// Workgroup memory holds a slice of A and a slice of B, each as [TILE_K][pitch] of vec4. A vec4 holds four neighbours
// along m or n, so the inner loop reads whole vectors, and neighbouring invocations read neighbouring vectors. Each
// invocation keeps a block of C in registers: quads of rows times quads of columns. Its quads are THREADS_M (THREADS_N)
// quads apart, which keeps the reads of a subgroup contiguous. Past the end of m and n the last index is repeated and
// not stored; past the end of k the slices hold zero.
//
// Prepended by the generator: M, N, K, BATCH, THREADS, GROUPS_X, GROUPS_Y, TILE_M, TILE_N, TILE_K, TILES_M, TILES_N,
// THREADS_N, PITCH_A, PITCH_B (quads from one step of k to the next in a slice); side_a(batch, i), quad_a(four sides,
// p), the same for b with j; epilogue(batch, i, j, product).
var<workgroup> slice_a: array<vec4<f32>, TILE_K * PITCH_A>;
var<workgroup> slice_b: array<vec4<f32>, TILE_K * PITCH_B>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = group.x + (group.y + group.z * GROUPS_Y) * GROUPS_X;
    // The grid may have more workgroups than tiles. The extra ones repeat the last tile and store nothing.
    let batch = min(tile / (TILES_M * TILES_N), BATCH - 1u);
    let live = tile < BATCH * TILES_M * TILES_N;
    let i0 = tile / TILES_N % TILES_M * TILE_M;
    let j0 = tile % TILES_N * TILE_N;
    let thread_m = local / THREADS_N;
    let thread_n = local % THREADS_N;
    //@ sides
    //@ accumulators
    for (var p0 = 0u; p0 < K; p0 += TILE_K) {
        //@ fill
        workgroupBarrier();
        for (var p = 0u; p < TILE_K; p += 1u) {
            //@ accumulate
        }
        workgroupBarrier();
    }
    if live {
        //@ store
    }
}
