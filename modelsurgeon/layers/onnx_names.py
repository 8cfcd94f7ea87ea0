"""Names in ONNX graphs that more than one package reads: domains, linear operators, exporter metadata."""

STANDARD_DOMAINS = ("", "ai.onnx")  # two spellings of one domain
MICROSOFT_DOMAIN = "com.microsoft"
NCHWC_DOMAIN = "com.microsoft.nchwc"  # maps whose channels lie in blocks
LINEAR_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
NAME_SCOPES_KEY = "pkg.torch.onnx.name_scopes"  # in metadata_props: the modules that a node was exported from
# In the meta of a graph exported from a module: its parameters by name, each as (elements, bytes, number of
# constants made from it). In the meta of such a constant: the names of the parameters that it is made from.
MODULE_PARAMS_KEY = "modelsurgeon.module_params"
ORIGINS_KEY = "modelsurgeon.origins"
