"""CapFilt: texts written for pictures of the web; of these and the web's own, those are kept that fit (BLIP, 3.3)."""
