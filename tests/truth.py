"""Reference costs of real models, counted without this package from runs with all tensors exposed."""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The file of a model, the input shapes of the run, and the totals at these shapes."""

    file: str
    shapes: dict[str, Shape]
    macs: int
    bias_adds: int
    params: int
    param_bytes: int
    bn_stats: int
    activation_bytes: int
    peak_activation_bytes: int


IMAGE = (1, 3, 224, 224)
AUDIO: dict[str, Shape] = {"input": (1, 576), "state": (2, 1, 128)}

LIGHT = {
    "bvlc_alexnet": Truth(
        file="light_bvlc_alexnet.onnx",
        shapes={"data_0": IMAGE},
        macs=654_560_384,
        bias_adds=609_640,
        params=60_965_224,
        param_bytes=243_860_896,
        bn_stats=0,
        activation_bytes=7_837_504,
        peak_activation_bytes=2_239_488,
    ),
    "densenet121": Truth(
        file="light_densenet121.onnx",
        shapes={"data_0": IMAGE},
        macs=2_834_161_664,
        bias_adds=1000,
        params=8_146_152,
        param_bytes=32_584_608,
        bn_stats=83_648,
        activation_bytes=321_084_320,
        peak_activation_bytes=8_429_568,
    ),
    "inception_v1": Truth(
        file="light_inception_v1.onnx",
        shapes={"data_0": IMAGE},
        macs=1_431_556_352,
        bias_adds=3_014_632,
        params=6_998_552,
        param_bytes=27_994_208,
        bn_stats=0,
        activation_bytes=37_248_576,
        peak_activation_bytes=6_422_528,
    ),
    "inception_v2": Truth(
        file="light_inception_v2.onnx",
        shapes={"data_0": IMAGE},
        macs=2_018_851_840,
        bias_adds=1000,
        params=11_234_792,
        param_bytes=44_939_168,
        bn_stats=19_904,
        activation_bytes=85_146_048,
        peak_activation_bytes=6_422_528,
    ),
    "squeezenet": Truth(
        file="light_squeezenet.onnx",
        shapes={"data_0": IMAGE},
        macs=349_151_936,
        bias_adds=2_589_352,
        params=1_235_496,
        param_bytes=4_941_984,
        bn_stats=0,
        activation_bytes=29_139_840,
        peak_activation_bytes=6_308_352,
    ),
    "vgg19": Truth(
        file="light_vgg19.onnx",
        shapes={"data_0": IMAGE},
        macs=19_632_062_464,
        bias_adds=14_861_288,
        params=143_667_240,
        param_bytes=574_668_960,
        bn_stats=0,
        activation_bytes=125_779_776,
        peak_activation_bytes=25_690_112,
    ),
    "resnet50": Truth(
        file="light_resnet50.onnx",
        shapes={"gpu_0/data_0": IMAGE},
        macs=4_089_184_256,
        bias_adds=1000,
        params=25_610_152,
        param_bytes=102_440_608,
        bn_stats=53_120,
        activation_bytes=150_853_440,
        peak_activation_bytes=9_633_792,
    ),
    "shufflenet": Truth(
        file="light_shufflenet.onnx",
        shapes={"gpu_0/data_0": IMAGE},
        macs=124_664_528,
        bias_adds=302_056,
        params=1_420_152,
        param_bytes=5_680_608,
        bn_stats=26_832,
        activation_bytes=57_673_984,
        peak_activation_bytes=3_110_912,
    ),
    "zfnet512": Truth(
        file="light_zfnet512.onnx",
        shapes={"gpu_0/data_0": IMAGE},
        macs=1_481_727_008,
        bias_adds=1_527_880,
        params=87_250_536,
        param_bytes=349_002_144,
        bn_stats=0,
        activation_bytes=19_442_112,
        peak_activation_bytes=9_124_608,
    ),
}

# Found by name in the folder that MODELSURGEON_MODELS names. An If counts as the branch for 16 kHz audio.
PUBLIC = {
    "ch_PP-OCRv4_det_infer": Truth(
        file="ch_PP-OCRv4_det_infer.onnx",
        shapes={"x": (1, 3, 640, 640)},
        macs=2_301_935_744,
        bias_adds=16_276_520,
        params=1_171_745,
        param_bytes=4_686_980,
        bn_stats=128,
        activation_bytes=695_605_184,
        peak_activation_bytes=39_321_600,
    ),
    "ch_PP-OCRv4_rec_infer": Truth(
        file="ch_PP-OCRv4_rec_infer.onnx",
        shapes={"x": (1, 3, 48, 320)},
        macs=702_469_440,
        bias_adds=5_369_220,
        params=2_690_286,
        param_bytes=10_761_144,
        bn_stats=1712,
        activation_bytes=201_711_444,
        peak_activation_bytes=2_949_120,
    ),
    "ch_ppocr_mobile_v2.0_cls_infer": Truth(
        file="ch_ppocr_mobile_v2.0_cls_infer.onnx",
        shapes={"x": (1, 3, 48, 192)},
        macs=16_315_376,
        bias_adds=0,
        params=133_628,
        param_bytes=534_512,
        bn_stats=4272,
        activation_bytes=13_384_868,
        peak_activation_bytes=485_376,
    ),
    "magika_v3_3": Truth(
        file="standard_v3_3/model.onnx",
        shapes={"bytes": (1, 2048)},
        macs=366_717_952,
        bias_adds=0,
        params=784_215,
        param_bytes=3_136_860,
        bn_stats=0,
        activation_bytes=26_700_204,
        peak_activation_bytes=3_121_168,
    ),
    "silero_vad": Truth(
        file="silero_vad.onnx",
        shapes=AUDIO | {"sr": ()},
        macs=679_552,
        bias_adds=833,
        params=545_282,
        param_bytes=2_181_128,
        bn_stats=0,
        activation_bytes=5393,
        peak_activation_bytes=4357,
    ),
    "silero_vad_16k_op15": Truth(
        file="silero_vad_16k_op15.onnx",
        shapes=AUDIO | {"sr": ()},
        macs=679_552,
        bias_adds=833,
        params=309_633,
        param_bytes=1_238_532,
        bn_stats=0,
        activation_bytes=50_291,
        peak_activation_bytes=9288,
    ),
    "silero_vad_op18_ifless": Truth(
        file="silero_vad_op18_ifless.onnx",
        shapes=AUDIO | {"sr": ()},
        macs=679_552,
        bias_adds=1857,
        params=545_282,
        param_bytes=2_181_128,
        bn_stats=0,
        activation_bytes=4381,
        peak_activation_bytes=4357,
    ),
    "silero_vad_half": Truth(
        file="silero_vad_half.onnx",
        shapes=AUDIO,
        macs=679_552,
        bias_adds=833,
        params=309_633,
        param_bytes=1_238_532,
        bn_stats=0,
        activation_bytes=49_247,
        peak_activation_bytes=9280,
    ),
    "silero_vad_openvino_16k": Truth(
        file="silero_vad_openvino_16k.onnx",
        shapes=AUDIO,
        macs=679_552,
        bias_adds=833,
        params=309_633,
        param_bytes=1_238_532,
        bn_stats=0,
        activation_bytes=53_236,
        peak_activation_bytes=9280,
    ),
    "silero_vad_16k_sequence": Truth(
        file="silero_vad_16k_sequence.onnx",
        shapes={"input": (100, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
        macs=74_560_000,
        bias_adds=83_300,
        params=309_633,
        param_bytes=1_238_532,
        bn_stats=0,
        activation_bytes=4_091_248,
        peak_activation_bytes=981_424,
    ),
}
