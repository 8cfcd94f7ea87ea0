"""Settings of all tests."""

import os

from hypothesis import settings

os.environ["MODELSURGEON_CACHE"] = "off"  # keep timings out of the cache of the user

settings.register_profile("modelsurgeon", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("modelsurgeon")
