// Read data of one port of all banks to the word that was asked for: one of four banks in every region, then one of the
// regions. Two cycles.
module bank_selector #(
    parameter int unsigned WIDTH = 256
) (
    input  logic                                                       clk,
    input  logic [bertile_pkg::CapacityActivationBanks-1:0][WIDTH-1:0] data,
    input  logic [bertile_pkg::CapacityActivationBanks-1:0]            banks,  // one bit
    output logic [WIDTH-1:0]                                           selected
);

  localparam int unsigned Regions = bertile_pkg::CapacityActivationBanks / 4;

  logic [Regions-1:0][WIDTH-1:0] candidates;
  logic [Regions-1:0] regions;
  logic [1:0] bank;  // in every region

  always_comb begin
    bank = '0;
    for (int b = 0; b < bertile_pkg::CapacityActivationBanks; b++) begin
      if (banks[b]) bank = bank | 2'(b);
    end
  end

  always_ff @(posedge clk) begin
    for (int r = 0; r < Regions; r++) begin
      candidates[r] <= data[4*r+32'(bank)];
      regions[r] <= banks[4*r+:4] != '0;
    end
    selected <= candidates[Regions-1];
    for (int r = 0; r < Regions - 1; r++) begin
      if (regions[r]) selected <= candidates[r];
    end
  end

endmodule
