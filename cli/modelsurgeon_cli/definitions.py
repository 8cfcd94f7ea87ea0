"""Definitions of the numbers of `info`, as `info --definitions` prints them."""

DEFINITIONS = """\
macs              One MAC is one multiply and one add of Conv, ConvTranspose, Gemm, MatMul, Einsum,
                  RNN, GRU, LSTM and Attention, and of their quantized and contrib forms.
                  Conv counts padded taps. Bias adds, normalization, non-linearities and pooling
                  are 0 MACs.
flops             2 * MACs + those other operations.
bias_adds         Additions of a bias inside such an operator; they are in flops.
params            Elements of floating or dequantized weights, wherever they are: initializer, Constant,
                  constant ConstantOfShape, subgraph, function; each tensor once.
                  Shape and index constants and 0-d scalars are no params, nor are constants.
constants         Floating constants that steer operators and aren't learnt: scales and roi of Resize, ratios,
                  bounds, thresholds, fill values, factors in the arithmetic of sizes; masks on the way to a
                  Softmax; initial states of zeros, and zeros that a Scatter writes into; a single factor,
                  divisor, exponent or bound that no module calls its own. Where all weights are in Constant
                  nodes, they count as params, with a note.
constant_bytes    Bytes of the constants as stored.
attribute_bytes   Bytes of numbers in attributes, such as trees: 4 for a float, 8 for an integer. They are no
                  params.
param_bytes       Bytes of the params as stored.
bn_stats          Running statistics of batch norms; they are in params.
activation_bytes  Bytes of all tensors that the nodes of the main graph produce, plus the graph inputs.
peak_activation_bytes
                  The largest sum of live bytes over the nodes in file order: inputs live until their
                  last use, outputs to the end, a node's inputs and outputs together, no aliasing.
mac_share, param_share
                  The layer's part of the total, from 0 to 1.
intensity         FLOPs for each byte read or written.
If                counts as its more expensive branch, unless its condition is known or a branch can't run.
Loop, Scan        count as trip count times body where that is constant, else as one iteration, with a note.
open dimensions   give formulas, shown with their values at the stated defaults.
memory            Live bytes while each node runs, branches and loop bodies included: the values of a body are
                  live in addition to those around it, and stacked outputs of a loop from its start.
training          Bytes to train: weights; a gradient for each trained one (all floating ones but batch-norm
                  statistics); the optimizer's state (float32: 1 number per param for SGD with
                  momentum, 2 for Adam; plus a float32 copy of half-precision weights); and tensors
                  saved for the backward pass: factors of products, inputs or outputs of
                  non-linearities, inputs and indices of pooling, inputs and statistics of
                  normalization; each tensor once, views not at all. Recomputed: outputs at some
                  cuts of the net are kept, the rest is recomputed, one segment at a time.
uncounted         Operators whose cost isn't known. They are listed, and are in no total. Where only the size
                  of an output is missing, the node that it is missing at is named, and the nodes behind it
                  are summed up.
incomplete        What totals leave out: uncounted operators, further iterations of a loop whose number isn't
                  known, activations of unknown size, nodes that can't run, a branch that may cost more. These
                  totals are lower bounds. Sizes that depend on data and have no bound are assumed, and listed
                  here, too. A gate on any of these totals is missed, and --strict allows none.
"""
