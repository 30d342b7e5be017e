"""What crosses a boundary: every message, request and reply of Assay, and the table of topics.

A storefront team can integrate by reading this package alone. It imports nothing else of ours.
"""
