// Which bank of the activation memory holds an address, and in which row. Neighbouring addresses lie in four banks.
module bank_decoder #(
    parameter int unsigned BANK_WORDS = bertile_pkg::CapacityActivationBankWords
) (
    input  logic [15:0]                                    address,
    output logic [bertile_pkg::CapacityActivationBanks-1:0] banks,  // one bit, or none past the memory
    output logic [$clog2(BANK_WORDS)-1:0]                  row
);

  localparam int unsigned RowBits = $clog2(BANK_WORDS);

  assign row = address[2+:RowBits];
  always_comb begin
    for (int bank = 0; bank < bertile_pkg::CapacityActivationBanks; bank++) begin
      banks[bank] = {address[15:2+RowBits], address[1:0]} == (16 - RowBits)'(bank);
    end
  end

endmodule
