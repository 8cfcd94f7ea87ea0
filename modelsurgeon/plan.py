"""What is to be done to each layer: plain data that a person may edit and replay."""

from __future__ import annotations


