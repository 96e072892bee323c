"""Area and logic levels of the RTL engine from Yosys, and the arithmetic that puts it on a card."""
