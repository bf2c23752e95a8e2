"""Laws over codes or pixels."""
