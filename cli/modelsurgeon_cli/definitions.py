"""What each number of `info` means, as `info --definitions` prints it."""

DEFINITIONS = """\
macs              One MAC is one multiply and one add of Conv, ConvTranspose, Gemm, MatMul, Einsum,
                  RNN, GRU, LSTM and Attention, and of their quantised and contrib forms.
                  Conv counts padded taps. Bias adds, normalisation, non-linearities and pooling
                  are 0 MACs.
flops             2 * MACs + those other operations.
bias_adds         Additions of a bias inside such an operator; they are in flops.
params            Elements of floating or dequantised weights, wherever they sit: initializer, Constant,
                  constant ConstantOfShape, subgraph, function; each tensor once.
                  Shape and index constants and 0-d scalars are no params.
param_bytes       Bytes of the params as they are stored.
bn_stats          Running statistics of batch norms; they are in params.
activation_bytes  Bytes of all tensors that the nodes of the main graph produce, plus the graph inputs.
peak_activation_bytes
                  The largest sum of live bytes over the nodes in file order: inputs live until their
                  last use, outputs to the end, a node's inputs and outputs together, no aliasing.
mac_share, param_share
                  The layer's part of the total, from 0 to 1.
intensity         FLOPs for each byte read or written.
If                counts as its dearer branch.
Loop, Scan        count as trip count times body where it is constant, else per iteration, and say so.
open dimensions   give formulas; beside them stands the value at the stated defaults.
memory            Live bytes as each node runs, branches and loop bodies included: the values of a body live
                  beside all that lives around it, and what a loop stacks up is there from its start.
training          Bytes to train: weights, a gradient for each that is trained (all floating ones but
                  batch-norm statistics), the optimizer's state (float32: 1 number for SGD with
                  momentum, 2 for Adam; half-precision weights have a float32 copy besides), and what
                  the backward pass needs: factors of products, inputs or outputs of
                  non-linearities, inputs and indices of pooling, inputs and statistics of
                  normalisation; each tensor once, views none. Recomputed: outputs at some cuts of
                  the net are kept, the rest is computed again, one segment at a time.
uncounted         Operators whose cost isn't known. They are named, and in no total.
"""
