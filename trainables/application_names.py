"""Names of Keras' applications, as `model` takes them: `applications:MobileNetV3Small`. Knows nothing of Keras."""

from __future__ import annotations

PREFIX = "applications:"

APPLICATIONS = (
    *(f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")),
    *(f"DenseNet{layers}" for layers in (121, 169, 201)),
    *(f"EfficientNetB{size}" for size in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "NASNetLarge",
    "NASNetMobile",
    *(f"ResNet{layers}{version}" for layers in (50, 101, 152) for version in ("", "V2")),
    "VGG16",
    "VGG19",
    "Xception",
)
"""Those of Keras 3."""


def find_application(model: str) -> str | None:
    """Returns the application that a model's name is, without the prefix; None for other models and unknown names."""
    name = model.removeprefix(PREFIX)
    return name if model.startswith(PREFIX) and name in APPLICATIONS else None
