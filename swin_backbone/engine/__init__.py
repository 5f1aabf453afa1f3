"""Glue to mmengine's Runner. Nothing is imported here, so that single modules stay cheap to use."""
